"""The exceptions for refused requests; a ``ContractError`` is refused too, with 400."""

from http import HTTPStatus

from process_cosmos_gateway.contract.errors import Code

from .errors import CloudError


class ProblemError(CloudError):
    """The request is refused; the reply is problem details (RFC 9457)."""

    def __init__(self, status: HTTPStatus, code: str, message: str, *, closing: bool = False) -> None:
        """Set status, stable code and a sentence for people; ``closing``: close the connection after the reply."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.closing = closing


class RefusedError(ProblemError):
    """The site, its certificate or its one-time code is refused, whatever the request contains."""

    def __init__(self, code: Code, message: str) -> None:
        """Set code and sentence; the connection is closed, because it may have been admitted."""
        status = HTTPStatus.CONFLICT if code is Code.IDENTITY_CONFLICT else HTTPStatus.FORBIDDEN
        super().__init__(status, code, message, closing=True)


class RequestTooLargeError(ProblemError):
    """The request exceeds a limit."""

    def __init__(self, message: str, *, closing: bool = False) -> None:
        """Set the sentence; ``closing``: close the connection, as the rest of the body is not read."""
        super().__init__(HTTPStatus.CONTENT_TOO_LARGE, Code.TOO_LARGE, message, closing=closing)
