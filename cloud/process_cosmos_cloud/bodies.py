"""Reads request bodies within limits: bytes, and seconds between two chunks."""

import asyncio
from http import HTTPStatus

from aiohttp import web

from process_cosmos_gateway.contract.errors import Code

from .problems import ProblemError, RequestTooLargeError

MAX_BODY = 3 << 20
"""Maximum size of a batch in bytes: three times as many as the gateway sends."""

MAX_REQUEST = 1 << 16
"""Maximum size of a certificate request in bytes."""

CHUNK_SECONDS = 30.0
"""Timeout for the next bytes of a body."""


async def read_body(request: web.Request, most: int, *, most_values: int | None = None) -> bytes:
    """Return the body; raise ``ProblemError`` if it is compressed, longer than ``most`` bytes, or incomplete.

    ``most_values``: the maximum number of commas in a JSON body, checked while it is received.

    Compressed bodies are refused because they can expand a thousandfold, and the gateway sends none.
    """
    if request.headers.get("Content-Encoding", "identity") != "identity":
        message = "The body must not have a content encoding."
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, Code.MALFORMED, message, closing=True)
    too_long = RequestTooLargeError(f"The body of this request can have at most {most} bytes.", closing=True)
    if (request.content_length or 0) > most:
        raise too_long
    body = bytearray()
    commas = 0
    try:
        while True:
            # Per chunk: a batch may take minutes over a slow link, but a connection without data must end.
            async with asyncio.timeout(CHUNK_SECONDS):
                chunk = await request.content.readany()
            if not chunk:
                return bytes(body)
            body += chunk
            commas += chunk.count(b",")
            if most_values is not None and commas > most_values:
                raise RequestTooLargeError(f"A batch has at most {most_values} values.", closing=True)
            if len(body) > most:
                raise too_long
    except TimeoutError as error:
        message = "The rest of the body did not arrive in time."
        raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, Code.MALFORMED, message, closing=True) from error
