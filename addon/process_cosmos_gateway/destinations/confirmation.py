"""Recognition of replies that come from the receiver itself, not from a page of a portal or proxy in between."""

import codecs
from collections.abc import Collection, Mapping
from enum import Enum, auto
from hashlib import sha256

import orjson

LOOKED_AT = 4096
"""Characters of a body searched for markup."""

MOST_VALUES = 1 << 16
"""Limit of commas and opening brackets in a reply that is parsed as JSON: a few milliseconds."""

_LONGEST_CHARACTER = 4

_BYTE_ORDER_MARKS: Mapping[bytes, str] = {
    # UTF-32's mark begins with UTF-16's.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


_OF_THE_WEB = ("utf", "ascii", "iso", "cp", "koi8", "mac", "gb", "big5", "euc", "shift_jis", "hz")


class BodyKind(Enum):
    """The kind of content in a reply's body."""

    DATA = auto()
    """Only whitespace, or one JSON document: no login page looks like that."""
    TEXT = auto()
    """Text without markup. A login page sent over plain HTTP could look like that."""
    PAGE = auto()
    """Markup, as sent by captive portals, proxies and firewalls in place of the receiver."""


def decode_body(body: bytes, charset: str | None) -> str:
    """Decode ``body`` by its byte order mark, else by ``charset``, else as UTF-8. Never raises."""
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if body.startswith(mark)), None)
    try:
        return body.decode(marked or _web_charset(charset), "replace")
    except ValueError:
        return body.decode("utf-8", "replace")


def _web_charset(charset: str | None) -> str:
    """Return the codec for a web charset, else UTF-8; some other codecs of Python take quadratic time."""
    try:
        name = codecs.lookup(charset or "utf-8").name
    except LookupError, ValueError:
        return "utf-8"
    return name if name.startswith(_OF_THE_WEB) else "utf-8"


def classify_body(body: bytes, charset: str | None) -> BodyKind:
    """Return the kind of ``body``; the content type is ignored, because many receivers leave it at ``text/html``."""
    if not body.strip() or _is_json(body):
        return BodyKind.DATA
    text = decode_body(body, charset).strip().removeprefix("\ufeff").strip()
    # orjson reads only UTF-8 without a byte order mark; some receivers reply in another encoding.
    if not text or _is_json(text.encode()):
        return BodyKind.DATA
    beginning = decode_body(body[: LOOKED_AT * _LONGEST_CHARACTER], charset)[:LOOKED_AT]
    return BodyKind.PAGE if "<" in beginning else BodyKind.TEXT


def _is_json(document: bytes) -> bool:
    """Return whether ``document`` is one JSON document of at most ``MOST_VALUES`` values.

    A megabyte of tiny values takes 0.1 s to parse, during which the event loop is blocked.
    """
    if sum(map(document.count, (b",", b"[", b"{"))) > MOST_VALUES:
        return False
    try:
        orjson.loads(document)
    except ValueError:
        return False
    return True


def body_digest(body: bytes) -> str:
    """Return the SHA-256 of a body in hex, by which a person approves a reply."""
    return sha256(body).hexdigest()


def is_confirmation(body: bytes, charset: str | None, *, verified: bool, approved: Collection[str]) -> bool:
    """Return whether a reply with status 200, or another status that can carry a page, is the receiver's own.

    Args:
        body: the whole body, decompressed.
        charset: from its content type.
        verified: the reply came over TLS with a checked certificate, so that no intermediary can have written it.
        approved: digests of bodies approved by a person.
    """
    found = classify_body(body, charset)
    return found is BodyKind.DATA or (found is BodyKind.TEXT and verified) or body_digest(body) in approved
