"""Batches of a harmful site: the heaviest that the cloud endpoint's bounds allow, and one just beyond them."""

from collections.abc import Callable, Iterable, Mapping
from itertools import count

import orjson

_PACKS = 6
_RECORDS = 5_000
_NAME = 60
"""Characters of a device's name."""
_VALUES = 199_000
_COMMAS = 400_001
_QUOTES = 1_000_000
_BRACKETS = 199_000
_WIDE = 450_000
"""Characters of four bytes each: with the brackets 2 MB."""


def series(site: str) -> Iterable[bytes]:
    """Yield batches of 30,000 readings, each of a new series."""
    names = (b"x" * _NAME + b"/p%d" % number for number in range(1, _RECORDS))
    rest = b"".join(b',{"n":"%s","v":1}' % name for name in names) + b"]"
    for number in count():
        events = []
        for base in (f"{number}-{pack}" for pack in range(_PACKS)):
            head = b'[{"bn":"%s","n":"a/b","bt":1,"v":1}' % base.encode()
            events.append(_event(site, base, head + rest, "senml+json"))
        yield b"[" + b",\n".join(events) + b"]"


def values(site: str) -> Iterable[bytes]:
    """Yield batches of one event with nearly as many values as an event may have."""
    for number in count():
        yield b"[" + _event(site, f"v{number}", b"[" + b"0," * (_VALUES - 1) + b"0]") + b"]"


def quotes(_: str) -> Iterable[bytes]:
    """Yield too many values, and an endless string of escaped quotes whose end must not be searched twice."""
    body = b"[" + b"," * _COMMAS + b'"' + rb"\"" * _QUOTES + b"]"
    while True:
        yield body


def brackets(site: str) -> Iterable[bytes]:
    """Yield batches of one long text that could be mistaken for deep nesting."""
    text = b'"' + b"[" * _BRACKETS + "\N{SPLASHING SWEAT SYMBOL}".encode() * _WIDE + b'"'
    for number in count():
        yield b"[" + _event(site, f"b{number}", text) + b"]"


BATCHES: Mapping[str, Callable[[str], Iterable[bytes]]] = {
    "values": values,
    "quotes": quotes,
    "brackets": brackets,
    "series": series,
}
"""The kinds of batches; each function gets the id of the site."""


def _event(site: str, name: str, data: bytes, content: str = "json") -> bytes:
    head = {
        "specversion": "1.0",
        "id": name,
        "source": f"/sites/{site}",
        "type": "testbed.harmful.v1",
        "datacontenttype": f"application/{content}",
    }
    return orjson.dumps(head)[:-1] + b',"data":' + data + b"}"
