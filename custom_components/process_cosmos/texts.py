"""Texts within limits, and as plain text where Markdown is rendered."""

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from itertools import takewhile
from typing import Final

import orjson

_QUOTES: Final = 2
_ELLIPSIS: Final = "…"
_JOINER: Final = "\u200d"
_MOST_MARKS = 32
"""Marks on one letter that a cut keeps together; more are not meant to be read."""

_LONGEST_QUOTE = 200
_MOST_LISTED = 20
_MARKUP = re.compile(r"[\\`*_\[\]<>|~#@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""What begins emphasis, code, a link (one that is only an address too), HTML, a table or a heading."""


def shortened(text: str, limit: int) -> str:
    """Return ``text`` within ``limit`` characters, with an ellipsis where something was cut off."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def quoted(text: str | None, limit: int = _LONGEST_QUOTE) -> str:
    """Return what somebody else said as one line of Markdown code, so that nothing in it is rendered; empty for none.

    ``limit``: characters.
    """
    line = " ".join((text or "").replace("`", "'").split())
    return f"`{shortened(line, limit)}`" if line else ""


def escaped(text: str) -> str:
    """Return plain ``text`` as Markdown that shows it as it is; its lines and lists stay lines and lists."""
    return _MARKUP.sub(r"\\\g<0>", text)


def listed(lines: Sequence[str]) -> str:
    """Return lines of Markdown as a list: the first 20, and the number of the others."""
    more = len(lines) - _MOST_LISTED
    return "\n".join([*(f"- {line}" for line in lines[:_MOST_LISTED]), *([f"- … (+{more})"] if more > 0 else [])])


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
