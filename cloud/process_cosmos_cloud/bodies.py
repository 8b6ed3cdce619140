"""Read the bodies of requests within limits: bytes, and seconds between two pieces."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from process_cosmos_gateway.contract.errors import Code

from .problems import ProblemError

MAX_BODY = 3 << 20
"""Bytes of the longest batch: three times as many as our own gateway sends."""

MAX_REQUEST = 1 << 16
"""Bytes of the longest request for a certificate."""

PIECE_SECONDS = 30.0
"""Until the next bytes of a body have to come."""


async def read_body(request: web.Request, most: int, *, most_values: int | None = None) -> bytes:
    """Return the body; raise ``ProblemError`` if it is compressed, longer than ``most`` bytes, or does not come.

    ``most_values``: of JSON; what holds more is refused as soon as so much of it has come.

    A gateway compresses nothing: a few kilobytes that unpack to a thousand times as much are a stranger's.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        message = "A body comes as it is, without a content encoding."
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Code.MALFORMED, message, closing=True)
    if (request.content_length or 0) > most:
        raise _too_large(most)
    body = bytearray()
    commas = 0
    try:
        while True:
            async with asyncio.timeout(PIECE_SECONDS):
                piece = await request.content.readany()
            if not piece:
                return bytes(body)
            body += piece
            commas += piece.count(b",")
            if most_values is not None and commas > most_values:
                message = f"A batch has at most {most_values} values."
                raise ProblemError(HTTPStatus.CONTENT_TOO_LARGE, Code.TOO_LARGE, message, closing=True)
            if len(body) > most:
                raise _too_large(most)
    except TimeoutError as error:
        message = "The rest of the body did not come."
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, Code.MALFORMED, message, closing=True) from error


def _too_large(most: int) -> ProblemError:
    message = f"A request like this has at most {most} bytes."
    return ProblemError(HTTPStatus.CONTENT_TOO_LARGE, Code.TOO_LARGE, message, closing=True)
