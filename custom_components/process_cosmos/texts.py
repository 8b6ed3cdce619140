"""Texts within limits."""

import unicodedata
from bisect import bisect_right
from itertools import takewhile
from typing import Final

import orjson

_QUOTES: Final = 2
_ELLIPSIS: Final = "…"
_JOINER: Final = "\u200d"
_MOST_MARKS = 32
"""Marks on one letter that a cut keeps together; more are not meant to be read."""


def shortened(text: str, limit: int) -> str:
    """Return ``text`` within ``limit`` characters, with an ellipsis where something was cut off."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def json_size(text: str) -> int:
    """Return the bytes of ``text`` inside a JSON string in UTF-8, without its quotes."""
    return len(orjson.dumps(text)) - _QUOTES


def shortened_to_bytes(text: str, limit: int) -> str:
    """Return ``text`` within ``limit`` bytes of JSON, cut before a character as people see it, with an ellipsis.

    Half a surrogate, which JSON cannot hold, becomes a question mark.
    """
    text = text.encode("utf-8", "replace").decode()
    if json_size(text) <= limit:
        return text
    room = limit - json_size(_ELLIPSIS)
    end = bisect_right(range(len(text) + 1), room, key=lambda length: json_size(text[:length])) - 1
    return f"{text[: _before_marks(text, max(end, 0))]}{_ELLIPSIS}" if room >= 0 else ""


def _before_marks(text: str, end: int) -> int:
    """Return where to cut at the latest, so that no accent, skin tone, joined emoji or flag comes apart."""
    earliest = max(end - _MOST_MARKS, 0)
    cut = end
    while cut > earliest and (_is_mark(text[cut]) or text[cut - 1] == _JOINER):
        cut -= 1
    if _is_flag_letter(text[cut]):  # a flag is a pair of letters, counted from where the letters begin
        cut -= sum(1 for _ in takewhile(_is_flag_letter, reversed(text[:cut]))) % 2
    return cut if cut > earliest else end


def _is_mark(character: str) -> bool:
    """Return whether ``character`` changes the one before it."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or "\U0001f3fb" <= character <= "\U0001f3ff"


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
