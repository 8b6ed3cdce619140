"""Whether the body of a reply can be a receiver's own words, or may be a page that stands in the way."""

import codecs
from collections.abc import Collection, Mapping
from enum import Enum, auto
from hashlib import sha256

import orjson

LOOKED_AT = 4096
"""Characters in which markup is looked for."""

MOST_VALUES = 1 << 16
"""Commas and opening brackets of a reply that is parsed to see whether it is JSON: a few milliseconds."""

_LONGEST_CHARACTER = 4

_BYTE_ORDER_MARKS: Mapping[bytes, str] = {
    # The mark of UTF-32 begins with that of UTF-16.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


_OF_THE_WEB = ("utf", "ascii", "iso", "cp", "koi8", "mac", "gb", "big5", "euc", "shift_jis", "hz")


class Body(Enum):
    """What a reply's body is."""

    DATA = auto()
    """Nothing but blanks, or one JSON document: no login page looks like that."""
    TEXT = auto()
    """Words without markup. A login page that came over plain HTTP could be this, too."""
    PAGE = auto()
    """Markup, which captive portals, proxies and firewalls send in a receiver's place."""


def decoded(body: bytes, charset: str | None) -> str:
    """Return ``body`` as text: by its byte order mark, else by ``charset``, else as UTF-8. Never raises."""
    marked = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if body.startswith(mark)), None)
    try:
        return body.decode(marked or _known(charset), "replace")
    except ValueError:
        return body.decode("utf-8", "replace")


def _known(charset: str | None) -> str:
    """Return the name of a character set of the web; Python's own codecs cost time with the square of the length."""
    try:
        name = codecs.lookup(charset or "utf-8").name
    except LookupError, ValueError:
        return "utf-8"
    return name if name.startswith(_OF_THE_WEB) else "utf-8"


def body_of(body: bytes, charset: str | None) -> Body:
    """Say what ``body`` is; the content type is not asked, because many receivers leave ``text/html`` in it."""
    if not body.strip() or _is_json(body):
        return Body.DATA
    text = decoded(body, charset).strip().removeprefix("\ufeff").strip()
    if not text or _is_json(text.encode()):
        return Body.DATA
    beginning = decoded(body[: LOOKED_AT * _LONGEST_CHARACTER], charset)[:LOOKED_AT]
    return Body.PAGE if "<" in beginning else Body.TEXT


def _is_json(document: bytes) -> bool:
    """Return whether it is one JSON document of at most ``MOST_VALUES`` values.

    A megabyte of tiny values takes 0.1 s to parse, during which the event loop does nothing else.
    """
    if sum(map(document.count, (b",", b"[", b"{"))) > MOST_VALUES:
        return False
    try:
        orjson.loads(document)
    except ValueError:
        return False
    return True


def digest(body: bytes) -> str:
    """Return what a person approves a reply by: the SHA-256 of its body, in hex."""
    return sha256(body).hexdigest()


def confirms(body: bytes, charset: str | None, *, verified: bool, approved: Collection[str]) -> bool:
    """Say whether a reply with status 200, or another that may carry a page, is the receiver's own.

    Args:
        body: the whole body, decompressed.
        charset: of its content type.
        verified: it came over TLS with a certificate that was checked, so that nobody in between could write it.
        approved: digests of bodies a person has vouched for.
    """
    found = body_of(body, charset)
    return found is Body.DATA or (found is Body.TEXT and verified) or digest(body) in approved
