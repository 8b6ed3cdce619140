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

    def __init__(self, message: str, code: str = "command_failed") -> None:
        """Create the error from a sentence and its stable code."""
        super().__init__(message)
        self.code = code
