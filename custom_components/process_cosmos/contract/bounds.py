"""Limits on the depth and size of JSON values, so that every value one side can read all sides can write.

orjson reads 1,024 levels and writes 254; Home Assistant, SQLite and schema validators have their own limits.
"""

import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time
from enum import Enum
from typing import Any

import orjson

from .errors import Code, ContractError

MAX_DEPTH = 64
"""Nesting levels (arrays and objects) of the deepest document that is accepted."""

MAX_DATA_DEPTH = 48
"""Nesting levels of data supplied by an automation; messages and events add levels around it."""

MAX_VALUES = 1 << 16
"""Values in the largest data supplied by an automation; further values are omitted."""

CUT = "…"
"""Placeholder for values that were nested too deeply or exceeded ``MAX_VALUES``."""

MOST_SIGNED = (1 << 63) - 1
"""The largest whole number a member may have: the largest SQLite can store."""

# The largest whole number that orjson writes.
_MOST_WRITTEN = (1 << 64) - 1

_MOST_BITS = 4096

type NoteFn = Callable[[str, str], None]


class TooDeepError(ContractError):
    """Error for a document nested deeper than ``MAX_DEPTH``."""

    def __init__(self) -> None:
        """Create the error with ``MAX_DEPTH`` in its message."""
        super().__init__("$", f"must not be nested deeper than {MAX_DEPTH} levels", Code.TOO_DEEP)


def is_deeper(document: object, most: int = MAX_DEPTH) -> bool:
    """Return whether arrays and objects of a parsed ``document`` are nested deeper than ``most`` levels."""
    # Level by level, because orjson reads 1,024 levels: a recursive function would exceed Python's recursion limit.
    level: list[Any] = [document] if isinstance(document, dict | list) else []
    for _ in range(most):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return bool(level)


def check_depth(text: bytes | str, document: object) -> None:
    """Raise ``TooDeepError`` if ``document``, read from ``text``, is nested deeper than ``MAX_DEPTH``.

    A document cannot be deeper than its number of opening brackets, and counting those takes a tenth of the time of
    traversing the document.
    """
    brackets = text.count(b"{") + text.count(b"[") if isinstance(text, bytes) else text.count("{") + text.count("[")
    if brackets > MAX_DEPTH and is_deeper(document):
        raise TooDeepError


def write_json(value: object, option: int | None = None) -> bytes:
    """Return ``value`` (dataclasses included) as JSON; apply ``bounded`` first if orjson refuses it."""
    try:
        return orjson.dumps(value, option=option)
    except TypeError:  # an unpaired surrogate, a whole number beyond 64 bits, more than 254 levels
        return orjson.dumps(bounded(value, MAX_DEPTH), option=option)


def bounded(
    value: object,
    most: int = MAX_DATA_DEPTH,
    *,
    note_fn: NoteFn = lambda _path, _reason: None,
    default_fn: Callable[[Any], object] = str,
) -> Any:  # noqa: ANN401 - JSON
    """Return any Python value as JSON that every side can write; ``note_fn`` gets path and reason of each change.

    Unpaired surrogates become U+FFFD. Numbers that JSON cannot represent become strings, as do keys. Values deeper than
    ``most`` levels, or beyond the first ``MAX_VALUES``, become ``CUT``. Times become ISO 8601 strings, sets and tuples
    arrays, dataclasses objects. ``default_fn`` converts any other object to one of these, or raises TypeError.
    """
    return _Bounds(note_fn, default_fn).value(value, most, "$")


class _Bounds:
    def __init__(self, note_fn: NoteFn, default_fn: Callable[[Any], object]) -> None:
        self._note_fn = note_fn
        self._default_fn = default_fn
        self._left = MAX_VALUES
        self._is_noted = False

    def value(self, value: Any, most: int, path: str, *, converts: bool = True) -> Any:  # noqa: ANN401 - any value
        """Return ``value`` cut to ``most`` levels; ``converts``: whether ``default_fn`` may still be applied to it."""
        self._left -= 1
        fit: Any
        # The order matters: a StrEnum is a str and a bool is an int, for Python.
        match value:
            case None | bool():
                fit = value
            case Enum():
                fit = self.value(value.value, most, path)
            case str():
                fit = self._text(value, path)
            case int():
                fit = self._whole(value, path)
            case float():
                fit = self._real(value, path)
            case datetime() | date() | time():
                fit = value.isoformat()
            case Mapping() | list() | tuple() | AbstractSet():
                fit = self._container(value, most, path)
            case _ if is_dataclass(value):
                fit = self._container({each.name: getattr(value, each.name) for each in fields(value)}, most, path)
            case _:
                fit = self.value(self._converted(value), most, path, converts=False) if converts else "?"
        return fit

    def _converted(self, value: object) -> object:
        try:
            return self._default_fn(value)
        except TypeError:  # unknown to ``default_fn`` too
            return str(value)

    def _container(self, value: Any, most: int, path: str) -> Any:  # noqa: ANN401 - a container
        if most < 1:
            self._note_fn(path, "is nested too deeply")
            return CUT
        if isinstance(value, Mapping):
            items = {}
            for key, item in value.items():
                if self._is_over(path):
                    break
                name = self._text(key if isinstance(key, str) else str(key), path)
                items[name] = self.value(item, most - 1, f"{path}.{name[:64]}")
            return items
        entries = []
        for index, item in enumerate(value):
            if self._is_over(path):
                entries.append(CUT)
                break
            entries.append(self.value(item, most - 1, f"{path}[{index}]"))
        return entries

    def _is_over(self, path: str) -> bool:
        if self._left > 0:
            return False
        if not self._is_noted:
            self._note_fn(path, f"contains more than {MAX_VALUES} values")
        self._is_noted = True
        return True

    def _text(self, text: str, path: str) -> str:
        try:
            text.encode()
        except UnicodeEncodeError:
            self._note_fn(path, "contains an unpaired surrogate")
            return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return str(text)

    def _whole(self, number: int, path: str) -> int | str:
        if -MOST_SIGNED - 1 <= number <= _MOST_WRITTEN:
            return int(number)
        self._note_fn(path, "is a whole number beyond 64 bits")
        # Python refuses to convert a longer one to decimal (sys.set_int_max_str_digits).
        return str(number) if number.bit_length() <= _MOST_BITS else hex(number)

    def _real(self, number: float, path: str) -> float | str:
        if math.isfinite(number):
            return float(number)
        self._note_fn(path, "is not a finite number")
        return str(number)
