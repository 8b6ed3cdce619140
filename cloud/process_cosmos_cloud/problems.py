"""The exception for refused requests."""

from http import HTTPStatus

from .errors import CloudError


class ProblemError(CloudError):
    """The request is refused; the reply is problem details (RFC 9457)."""

    def __init__(self, status: HTTPStatus, code: str, message: str, *, closing: bool = False) -> None:
        """Set status, stable code and a sentence for people; ``closing``: close the connection after the reply."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.closing = closing
