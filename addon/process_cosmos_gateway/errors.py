"""The gateway's errors, named by what the caller does with them."""

from .contract.errors import Code


class RequestRefusedError(Exception):
    """Tell the one who asked: ``code`` for programs, the message for people; neither holds a secret."""

    def __init__(self, code: Code, message: str) -> None:
        """Take the stable code and the sentence."""
        super().__init__(message)
        self.code = code


class StoreError(Exception):
    """Nothing of the change is on disk; the caller may try again."""


class StartError(Exception):
    """The gateway cannot start; the message names what a person must mend, and holds no secret."""
