"""Records when each TLS connection was accepted, to tell which of two is newer."""

import ssl
import time
from typing import Self

from aiohttp import web


class DatedTLS(ssl.SSLObject):
    """The TLS object of a connection, with the time it was accepted."""

    opened_at: int

    def __new__(cls, *_: object, **__: object) -> Self:
        """Record the time of creation."""
        # Not in ``__init__``, which ``ssl`` never calls for its objects.
        self = super().__new__(cls)
        self.opened_at = time.monotonic_ns()
        return self


def date_connections(context: ssl.SSLContext) -> None:
    """Make every connection of ``context`` record when it was accepted."""
    context.sslobject_class = DatedTLS


def opened_at(request: web.Request) -> int:
    """Return when the connection of a request was accepted, in nanoseconds of the monotonic clock; 0: not TLS."""
    tls = request.get_extra_info("ssl_object")
    return tls.opened_at if isinstance(tls, DatedTLS) else 0
