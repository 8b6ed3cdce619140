"""The gateway's errors, grouped by how callers handle them."""

from typing import ClassVar

from .contract.errors import Code


class GatewayError(Exception):
    """The root of the errors of this package, except those of the contract."""


class CodedError(GatewayError):
    """An error with a ``code`` for programs and a message for people; neither contains a secret."""

    def __init__(self, code: Code, message: str) -> None:
        """Create the error from its stable code and a sentence."""
        super().__init__(message)
        self.code = code


class RequestRefusedError(CodedError):
    """A request is refused."""


class StoreError(GatewayError):
    """A change was not stored, not even in part; the caller may try again."""

    code: ClassVar[str] = Code.STORE_FAILED


class StartError(GatewayError):
    """The gateway cannot start; the message says what to correct, and contains no secret."""

    code: ClassVar[str] = "command_failed"


class PortTakenError(StartError):
    """Another program listens on the gateway's port."""

    code: ClassVar[str] = "start_port_taken"


class FolderTakenError(StartError):
    """Another gateway uses the data folder."""

    code: ClassVar[str] = "start_folder_taken"


class FolderInvalidError(StartError):
    """The data folder cannot be created: a file is in its place, or its name is too long."""

    code: ClassVar[str] = "start_folder_invalid"


class TokenMissingError(StartError):
    """The Supervisor provided options but no token."""

    code: ClassVar[str] = "start_token_missing"
