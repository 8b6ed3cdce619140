"""Which of two connections is the newer one."""

import ssl
import time
from typing import Self

from aiohttp import web


class DatedTLS(ssl.SSLObject):
    """One connection's TLS, made when the connection was accepted."""

    opened_at: int

    def __new__(cls, *_: object, **__: object) -> Self:
        """Note the moment."""
        self = super().__new__(cls)
        self.opened_at = time.monotonic_ns()
        return self


def date_connections(context: ssl.SSLContext) -> None:
    """Have every connection of ``context`` know when it was accepted."""
    context.sslobject_class = DatedTLS


def opened_at(request: web.Request) -> int:
    """Return when the connection of a request was accepted: nanoseconds of the monotonic clock."""
    tls = request.get_extra_info("ssl_object")
    return tls.opened_at if isinstance(tls, DatedTLS) else 0
