"""What a request is refused with."""

from http import HTTPStatus


class ProblemError(Exception):
    """The request is refused: answered as problem details (RFC 9457)."""

    def __init__(self, status: HTTPStatus, code: str, message: str, *, closing: bool = False) -> None:
        """Take the status, a stable code for programs, a sentence for people; ``closing``: the connection ends."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.closing = closing
