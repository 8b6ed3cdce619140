"""Shortening of texts, and escaping for Markdown."""

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
"""Combining marks on one letter that are kept together when a text is cut."""

_LONGEST_QUOTE = 200
_MOST_LISTED = 20
_MARKUP = re.compile(r"[\\`*_\[\]<>|~#@]|:(?=//)|(?<=www)\.", re.IGNORECASE)
"""Characters that start emphasis, code, links (also bare addresses), HTML, tables or headings."""


def shortened(text: str, limit: int) -> str:
    """Return ``text`` cut to ``limit`` characters, with an ellipsis if it was cut."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def quoted(text: str | None, limit: int = _LONGEST_QUOTE) -> str:
    """Return foreign text as one line of Markdown code of at most ``limit`` characters, so that none of it is rendered.

    Returns an empty string for None or blank text.
    """
    # Replaced, not escaped: Markdown knows no escapes within code, so a backtick would end it.
    line = " ".join((text or "").replace("`", "'").split())
    return f"`{shortened(line, limit)}`" if line else ""


def escaped(text: str) -> str:
    """Escape ``text`` for Markdown; line breaks and lists keep their meaning."""
    return _MARKUP.sub(r"\\\g<0>", text)


def listed(lines: Sequence[str]) -> str:
    """Return lines of Markdown as a list of the first 20, followed by the number of omitted lines."""
    more = len(lines) - _MOST_LISTED
    return "\n".join([*(f"- {line}" for line in lines[:_MOST_LISTED]), *([f"- … (+{more})"] if more > 0 else [])])


def json_size(text: str) -> int:
    """Return the size in bytes of ``text`` as a JSON string in UTF-8, without the quotes."""
    return len(orjson.dumps(text)) - _QUOTES


def shortened_to_bytes(text: str, limit: int) -> str:
    """Return ``text`` cut to ``limit`` bytes of JSON at a grapheme boundary, with an ellipsis if it was cut.

    A lone surrogate, which JSON cannot represent, becomes a question mark.
    """
    text = text.encode("utf-8", "replace").decode()
    if json_size(text) <= limit:
        return text
    room = limit - json_size(_ELLIPSIS)
    # Each character has a size, so the sizes of the prefixes increase, as a bisection requires.
    end = bisect_right(range(len(text) + 1), room, key=lambda length: json_size(text[:length])) - 1
    return f"{text[: _before_marks(text, max(end, 0))]}{_ELLIPSIS}" if room >= 0 else ""


def _before_marks(text: str, end: int) -> int:
    """Return the last position up to ``end`` that splits no accent, skin tone, joined emoji or flag."""
    earliest = max(end - _MOST_MARKS, 0)
    cut = end
    while cut > earliest and (_is_mark(text[cut]) or text[cut - 1] == _JOINER):
        cut -= 1
    if _is_flag_letter(text[cut]):  # a flag is a pair of letters, counted from the first letter of the run
        cut -= sum(1 for _ in takewhile(_is_flag_letter, reversed(text[:cut]))) % 2
    # Foreign text may consist of marks only: it is then cut anywhere rather than to nothing.
    return cut if cut > earliest else end


def _is_mark(character: str) -> bool:
    """Return whether ``character`` modifies the preceding one."""
    return unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf") or "\U0001f3fb" <= character <= "\U0001f3ff"


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
