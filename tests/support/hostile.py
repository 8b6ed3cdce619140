"""JSON that somebody sends who means no good, or whose encoder is broken; every entrance is attacked with it."""

from collections.abc import Sequence

import orjson
from hypothesis import strategies as st

HEALTHY = b'{"level":1}'


def nested(levels: int) -> bytes:
    """Return arrays and objects in turn inside one another, so many levels of them, around a number."""
    opening = [b'{"a":' if level % 2 else b"[" for level in range(levels)]
    closing = [b"}" if level % 2 else b"]" for level in reversed(range(levels))]
    return b"".join([*opening, b"1", *closing])


LEVELS: Sequence[int] = (65, 128, 249, 253, 254, 255, 1023)
"""Deeper than allowed; between 249 and 255 something can be read that cannot be written, beyond 1,024 nothing is."""

_NUMBERS = (
    *(b"1e300", b"-1e300", b"1e308", b"1e309", b"5e-324", b"-0", b"-0.0", b"NaN", b"Infinity", b"-1", b"0.5"),
    *(
        str(sign * (1 << bits) + more).encode()
        for bits in (31, 53, 63, 64, 70)
        for sign in (1, -1)
        for more in (-1, 0, 1)
    ),
    b"9" * 400,
    b"253402300800",
    b"-62135596801",
)
_TEXTS = (
    *(
        rb'"\ud83d"',
        rb'"\ude00"',
        rb'"\ud83d\ude00"',
        rb'"a\ud83db"',
        rb'"\u0000"',
        b'"\xff"',
        b'"\xed\xa0\xbd"',
        b'""',
    ),
    *(b'"0001-01-01T00:00:00+14:00"', b'"9999-12-31T23:59:59-12:00"', b'"2026-11-30T00:00:60Z"', b'"2026-02-30"'),
    *(b'"7ZZZZZZZZZZZZZZZZZZZZZZZZZ"', b'"00000000000000000000000000"', b'"{{ x }}"'),
)
_BROKEN = (b"", b"{", b'{"a":', b"[1,]", b'{"a":1,"a":2}', b"\xff\xfe", b"\x00", b"null null", b"]", b'"', b"tru")

_values = st.recursive(
    st.sampled_from([*_NUMBERS, *_TEXTS, b"null", b"true", b"{}", b"[]"]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda some: b"[" + b",".join(some) + b"]")
        | st.lists(st.tuples(st.sampled_from([b'"a"', b'"v"', b'"t"', b'"id"', rb'"\u0000"']), inner), max_size=3).map(
            lambda pairs: b"{" + b",".join(key + b":" + value for key, value in pairs) + b"}"
        )
    ),
    max_leaves=8,
)

documents = st.one_of(
    _values,
    st.integers(0, 1100).map(nested),
    st.tuples(st.integers(40, 300), _values).map(lambda pair: b"[" * pair[0] + pair[1] + b"]" * pair[0]),
    st.sampled_from(_BROKEN),
    st.integers(65_000, 70_000).map(lambda length: b'"' + b"x" * length + b'"'),
    st.binary(max_size=20),
)
"""Texts of JSON values, most of them valid."""


def is_json(text: bytes) -> bool:
    """Return whether orjson reads ``text``."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True
