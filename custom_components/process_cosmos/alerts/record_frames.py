"""Frames of the record log: length and CRC-32 of a payload (big endian, 4 bytes each), then the payload."""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator

_FRAME = struct.Struct(">II")
_PAYLOAD = re.compile(rb'\[\["|\{"')
"""How each payload begins: where to look for the next frame behind a damaged one."""


def framed(payload: bytes) -> bytes:
    """Return the frame of ``payload``."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def frame_of_lines(lines: Iterable[bytes]) -> bytes:
    """Return one frame of a JSON list of ``lines``."""
    return framed(b"[" + b",".join(lines) + b"]")


def find_frames(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, offset after it, payload) of each sound frame; whatever else stands between is passed over."""
    begin = 0
    while begin + _FRAME.size < len(content):
        length, checksum = _FRAME.unpack_from(content, begin)
        end = begin + _FRAME.size + length
        payload = content[begin + _FRAME.size : end]
        if len(payload) == length and zlib.crc32(payload) == checksum and _PAYLOAD.match(payload):
            yield begin, end, payload
            begin = end
        elif found := _PAYLOAD.search(content, begin + _FRAME.size + 1):
            begin = found.start() - _FRAME.size
        else:
            return
