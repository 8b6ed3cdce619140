"""The gateway's errors, named by what the caller does with them."""

from typing import ClassVar

from .contract.errors import Code


class RequestRefusedError(Exception):
    """Tell the one who asked: ``code`` for programs, the message for people; neither holds a secret."""

    def __init__(self, code: Code, message: str) -> None:
        """Take the stable code and the sentence."""
        super().__init__(message)
        self.code = code


class StoreError(Exception):
    """Nothing of the change is on disk; the caller may try again."""

    code: ClassVar[str] = Code.STORE_FAILED


class StartError(Exception):
    """The gateway cannot start; the message says what a person must mend, and holds no secret."""

    code: ClassVar[str] = "command_failed"


class PortTakenError(StartError):
    """Another program listens where the gateway should."""

    code: ClassVar[str] = "start_port_taken"


class FolderTakenError(StartError):
    """Another gateway uses the data folder."""

    code: ClassVar[str] = "start_folder_taken"


class FolderInvalidError(StartError):
    """The data folder cannot be one: a file is in its place, or its name is too long."""

    code: ClassVar[str] = "start_folder_invalid"


class TokenMissingError(StartError):
    """The Supervisor's options are there, its token is not."""

    code: ClassVar[str] = "start_token_missing"
