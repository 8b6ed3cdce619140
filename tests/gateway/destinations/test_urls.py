"""URLs are sent unchanged, so that signed URLs stay valid."""

import asyncio
import base64
from collections.abc import AsyncIterator

import pytest

from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.contract.urls import encode_url
from process_cosmos_gateway.destinations.settings import WebhookSettings
from process_cosmos_gateway.destinations.webhook import Webhook
from process_cosmos_gateway.errors import RequestRefusedError
from tests.support.waiting import until

from .conftest import Site
from .parts import delivery


class RawServer:
    """An HTTP server without a parser that records the head of each request byte by byte."""

    def __init__(self) -> None:
        """Start without requests."""
        self.heads: list[bytes] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    @property
    def target(self) -> bytes:
        """The target of the newest request."""
        method, target, version = self.heads[-1].split(b"\r\n")[0].split(b" ")
        assert (method, version) == (b"POST", b"HTTP/1.1")
        return target


@pytest.fixture
async def raw() -> AsyncIterator[RawServer]:
    raw = RawServer()
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    async with server:
        yield raw


SENT = {
    "/a%2Fb?sig=x%2By%2Fz%3D": "/a%2Fb?sig=x%2By%2Fz%3D",
    "/%7Euser/%40me/%28x%29;v=1,2": "/%7Euser/%40me/%28x%29;v=1,2",
    "/a//b/../c/./d": "/a//b/../c/./d",
    "/%e2%82%ac?q=%E2%82%ac+1%201": "/%e2%82%ac?q=%E2%82%ac+1%201",
    "/?a=b&c=%26&d=?/:@!$'()*": "/?a=b&c=%26&d=?/:@!$'()*",
    "": "/",
    "?token=1%2F2": "/?token=1%2F2",
    "/p?q=1#part": "/p?q=1",
    '/Küche?a[]=1&b={x}|"y"': "/K%C3%BCche?a%5B%5D=1&b=%7Bx%7D%7C%22y%22",
    "/100%/50%zz?r=5%": "/100%25/50%25zz?r=5%25",
}


@pytest.mark.parametrize(("given", "sent"), SENT.items())
async def test_the_request_line_has_the_url_as_it_was_given(site: Site, raw: RawServer, given: str, sent: str) -> None:
    await site.set_webhook(f"http://127.0.0.1:{raw.port}{given}")
    await site.accept(1)
    await until(lambda: bool(raw.heads))
    assert raw.target == sent.encode()


async def test_a_user_and_password_with_escapes_are_sent_decoded_and_the_path_as_it_was(raw: RawServer) -> None:
    url = f"http://us%40er:p%3A%2Fw@127.0.0.1:{raw.port}/a%2Fb?x=%2B"
    webhook = Webhook(WebhookSettings(name="a", kinds=(EventKind.DEVICE,), url=url))
    await webhook.send([delivery(1)], proven=True, token=None)
    await webhook.close()
    assert raw.target == b"/a%2Fb?x=%2B"
    assert b"Authorization: Basic " + base64.b64encode(b"us@er:p:/w") in raw.heads[-1]


@pytest.mark.parametrize("inside", ["\r\n", "\r", "\n", "\t", " ", "\x00", "\x7f", "\u00a0", "\u2028", "\\"])
async def test_whitespace_inside_a_url_is_refused(site: Site, inside: str) -> None:
    for url in (f"https://example.org/a{inside}b", f"https://exa{inside}mple.org/", f"https://example.org/?a={inside}"):
        with pytest.raises(RequestRefusedError) as caught:
            await site.set_webhook(url)
        assert caught.value.code is Code.URL_INVALID
        assert "example" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "encoded", "count"),
    [
        ("https://example.org/a%2Fb?sig=x%2By%2Fz%3D", "https://example.org/a%2Fb?sig=x%2By%2Fz%3D", 0),
        ("https://müller.example/ä", "https://müller.example/%C3%A4", 1),
        ("https://a^b:c@[::1]:8443/^", "https://a%5Eb:c@[::1]:8443/%5E", 2),
        ("https://h/a#b#c", "https://h/a#b%23c", 1),
        ("no url at all ä", "no url at all ä", 0),
        ("https://h/a b", "https://h/a b", 0),
    ],
)
def test_only_invalid_characters_are_encoded_and_only_once(given: str, encoded: str, count: int) -> None:
    assert encode_url(given) == (encoded, count)
    assert encode_url(encoded) == (encoded, 0)
