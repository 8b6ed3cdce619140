"""Confirmation of deliveries by replies: a captive portal's page never confirms, in whatever form."""

import gzip
import ssl
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import trustme
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st

from process_cosmos_gateway.contract.destinations import LinkState
from process_cosmos_gateway.destinations.confirmation import (
    MOST_VALUES,
    BodyKind,
    body_digest,
    classify_body,
    decode_body,
    is_confirmation,
)
from process_cosmos_gateway.destinations.http_statuses import Meaning, meaning
from tests.support.waiting import until

from .conftest import Site
from .parts import Behaviour, Receiver, accept, receiver, reply

SCRIPT = "<script>location.href='http://10.0.0.1/login'</script>"
PAGES: dict[str, tuple[bytes, str | None]] = {
    "html": (b"<!DOCTYPE html><html><title>Log in to Free Wi-Fi", None),
    "a script": (SCRIPT.encode(), None),
    "a script as JSON": (SCRIPT.encode(), "application/json"),
    "a refresh": (b'<meta http-equiv=refresh content="0; url=http://10.0.0.1/">', "text/html"),
    "head and body": (b"<head><title>x</title></head><body>Accept our terms</body>", "text/html"),
    "a long comment first": (b"<!--" + b" " * 5_000 + b"--><p>Log in", "text/html"),
    "blanks first": (b"\r\n \t" * 900 + SCRIPT.encode(), "text/html"),
    "UTF-16 by its mark": (SCRIPT.encode("utf-16"), "text/html"),
    "UTF-16 by its charset": (SCRIPT.encode("utf-16-be"), "text/html; charset=utf-16be"),
    "UTF-16 by nothing": (SCRIPT.encode("utf-16-le"), None),
    "UTF-32 by its mark": (SCRIPT.encode("utf-32"), "text/html"),
    "UTF-7": (b"+ADw-script+AD4-location.href=1+ADw-/script+AD4-", "text/html; charset=utf-7"),
    "an unknown charset": (SCRIPT.encode(), "text/html; charset=klingon"),
    "a codec of Python's": (SCRIPT.encode(), "text/html; charset=unicode_escape"),
    "a long script between braces": (b"{" + SCRIPT.encode() + b" " * 100_000 + b"}", "text/html"),
    "XML": (b'<?xml version="1.0"?><WISPAccessGatewayParam/>', "application/xml"),
}
OWN: dict[str, tuple[bytes, str | None]] = {
    "nothing": (b"", None),
    "nothing of HTML": (b"", "text/html"),
    "blanks": (b" \r\n\t", "text/html"),
    "JSON": (b'{"page": "<html>"}', None),
    "JSON said to be HTML": (b' {"ok": true}\n', "text/html; charset=utf-8"),
    "a word of JSON": (b'"ok"', "text/html"),
    "a number": (b"1", "text/plain"),
    "JSON with a mark": (b'\xef\xbb\xbf{"ok": true}', "application/json"),
    "long JSON": (b'["<html>", "' + b"x" * 100_000 + b'"]', "text/html"),
    "JSON in UTF-16": ('{"ok": true}'.encode("utf-16"), "application/json"),
}


def typed(body: bytes, content_type: str | None, *, encoding: str | None = None, chunked: bool = False) -> Behaviour:
    """Reply 200 with a body of a content type, optionally compressed or chunked."""

    async def behave(request: web.Request, _body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={} if content_type is None else {"Content-Type": content_type})
        sent = gzip.compress(body) if encoding else body
        if encoding:
            response.headers["Content-Encoding"] = encoding
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(sent)
        await response.prepare(request)
        for start in range(0, len(sent), 7):
            await response.write(sent[start : start + 7])
        await response.write_eof()
        return response

    return behave


async def refused(site: Site) -> None:
    """Wait until the link is refused because of the reply, and assert that nothing was delivered."""
    await until(lambda: site.link("hook").state is LinkState.REFUSED)
    assert site.link("hook").reason == "not_a_receiver"
    assert await site.waiting() == 1


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
async def test_a_page_from_an_intermediary_confirms_nothing(
    site: Site, hook: Receiver, page: tuple[bytes, str | None]
) -> None:
    hook.behave = typed(*page)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await refused(site)


@pytest.mark.parametrize("form", [{"encoding": "gzip"}, {"chunked": True}, {"encoding": "gzip", "chunked": True}])
async def test_a_page_is_recognised_in_every_encoding(site: Site, hook: Receiver, form: dict[str, Any]) -> None:
    hook.behave = typed(SCRIPT.encode(), "text/html", **form)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await refused(site)


@pytest.mark.parametrize("own", OWN.values(), ids=OWN)
async def test_empty_bodies_and_json_confirm_with_any_content_type(
    site: Site, hook: Receiver, own: tuple[bytes, str | None]
) -> None:
    hook.behave = typed(*own)
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)


@pytest.mark.parametrize("status", [202, 204, 205])
async def test_a_status_no_portal_replies_confirms_with_any_body(site: Site, hook: Receiver, status: int) -> None:
    hook.behave = reply(status, b"" if status != 202 else SCRIPT.encode())
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)


async def test_a_body_that_claims_to_be_compressed_and_is_not_confirms_nothing(site: Site, hook: Receiver) -> None:
    hook.behave = reply(200, b"no gzip", Content_Encoding="gzip")
    await site.set_webhook(hook.url)
    await site.accept(1)
    await until(lambda: site.link("hook").reason == "malformed_reply")
    assert await site.waiting() == 1


async def test_text_confirms_over_verified_tls_and_not_over_plain_http(site: Site, hook: Receiver) -> None:
    hook.behave = reply(200, b"Thank you")
    await site.set_webhook(hook.url)
    await site.accept(1)
    await refused(site)
    assert site.link("hook").detail == "Thank you"


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], ssl.SSLContext]:
    """Trust an authority on this machine; return a factory of TLS contexts for servers."""
    authority = trustme.CA()
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(file)
    trusting = ssl.create_default_context(cafile=str(file))
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", trusting)

    def context() -> ssl.SSLContext:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(tls)
        return tls

    return context


@pytest.mark.parametrize(("body", "state"), [(b"Thank you", LinkState.CONNECTED), (SCRIPT.encode(), LinkState.REFUSED)])
async def test_over_verified_tls_text_confirms_and_markup_does_not(
    site: Site, trusted: Callable[[], ssl.SSLContext], body: bytes, state: LinkState
) -> None:
    async with receiver(reply(200, body), trusted()) as server:
        await site.set_webhook(server.url)
        await site.accept(1)
        await until(lambda: site.link("hook").state is state)


async def test_a_refused_link_quotes_the_reply_without_our_secrets(site: Site, hook: Receiver) -> None:
    said = f"<p>{'You may not see /in/deep-secret nor abc-def-123. ' * 20}"
    hook.behave = typed(said.encode("utf-16"), "text/html")
    await site.set_webhook(f"{hook.url}/in/deep-secret", header="X-Key", header_value="abc-def-123")
    await site.accept(1)
    await refused(site)
    detail = site.link("hook").detail
    assert detail is not None
    assert detail.startswith("<p>You may not see *** nor ***. You may")
    assert len(detail) == 200

    hook.behave = accept
    await site.set_webhook(f"{hook.url}/in/deep-secret", header="X-Key", header_value="abc-def-123")
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    assert site.link("hook").detail is None


@settings(deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from([None, "utf-8", "utf-16", "latin-1", "shift_jis", "utf-7", "punycode", "\0"]),
)
def test_every_body_is_decoded_and_classified(body: bytes, charset: str | None) -> None:
    decode_body(body, charset)
    found = classify_body(body, charset)
    assert is_confirmation(body, charset, verified=False, approved=()) is (found is BodyKind.DATA)
    assert is_confirmation(body, charset, verified=True, approved=()) is (found is not BodyKind.PAGE)
    assert is_confirmation(body, charset, verified=False, approved=[body_digest(body)])


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 9) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_every_json_document_is_data(document: object) -> None:
    assert classify_body(orjson.dumps(document), "text/html") is BodyKind.DATA


@settings(deadline=None)
@given(st.text(), st.text(), st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig"]))
def test_markup_in_the_beginning_is_a_page_in_every_encoding(before: str, after: str, encoding: str) -> None:
    body = f"x{before}<{after}".encode(encoding, "replace")
    assert classify_body(body, None) is BodyKind.PAGE


@pytest.mark.parametrize("status", [200, 201, 203, 206, 299])
def test_any_other_success_confirms_by_its_body_alone(status: int) -> None:
    assert meaning(status, own=True, single=True, proven=False) is Meaning.DELIVERED
    assert meaning(status, own=False, single=True, proven=True) is Meaning.REFUSED


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"[" + b"0," * (MOST_VALUES - 1) + b"0]", BodyKind.DATA),
        (b"[" + b"0," * MOST_VALUES + b"0]", BodyKind.TEXT),
        (b' {"a":"' + b"x" * 300_000 + b'"}\n', BodyKind.DATA),
        (b"x" * 300_000, BodyKind.TEXT),
        (b"<html>[" + b"x" * 300_000 + b"]", BodyKind.PAGE),
        (b"[<html>" + b"x" * 300_000 + b"]", BodyKind.PAGE),
    ],
    ids=["JSON", "too many values", "a long text in JSON", "words", "a page", "a page in brackets"],
)
def test_a_long_body_is_json_only_if_all_of_it_is(body: bytes, found: BodyKind) -> None:
    assert classify_body(body, None) is found
