"""Read the bodies of requests within limits: bytes as they come, bytes unpacked, seconds between two pieces."""

import asyncio
import zlib
from http import HTTPStatus

from aiohttp import web

from process_cosmos_gateway.contract.errors import Code

from .problems import ProblemError

MAX_BODY = 8 << 20
"""Bytes of the longest batch, before and after decompression."""

MAX_REQUEST = 1 << 16
"""Bytes of the longest request for a certificate."""

PIECE_SECONDS = 30.0
"""Until the next bytes of a body have to come."""

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read_body(request: web.Request, most: int) -> bytes:
    """Return the body as it came; raise ``ProblemError`` if it is longer than ``most`` bytes, or does not come."""
    if (request.content_length or 0) > most:
        raise _too_large(most)
    body = bytearray()
    try:
        while True:
            async with asyncio.timeout(PIECE_SECONDS):
                piece = await request.content.readany()
            if not piece:
                return bytes(body)
            body += piece
            if len(body) > most:
                raise _too_large(most)
    except TimeoutError as error:
        message = "The rest of the body did not come."
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, Code.MALFORMED, message, closing=True) from error


async def unpacked(request: web.Request, body: bytes) -> bytes:
    """Return ``body`` decompressed as its ``Content-Encoding`` says (RFC 9110, section 8.4), at most ``MAX_BODY``."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding not in _WINDOWS:
        message = "A batch comes as it is, or as gzip or deflate."
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Code.MALFORMED, message)
    return await asyncio.to_thread(_decompressed, body, _WINDOWS[encoding])


def _decompressed(body: bytes, window: int) -> bytes:
    unpacker = zlib.decompressobj(window)
    try:
        text = unpacker.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, "The body is not what its encoding says.") from error
    if len(text) > MAX_BODY:
        raise _too_large(MAX_BODY)
    if not unpacker.eof or unpacker.unused_data:
        raise ProblemError(HTTPStatus.BAD_REQUEST, Code.MALFORMED, "The compressed body is cut off, or goes on.")
    return text


def _too_large(most: int) -> ProblemError:
    message = f"A request like this has at most {most} bytes."
    return ProblemError(HTTPStatus.CONTENT_TOO_LARGE, Code.TOO_LARGE, message, closing=True)
