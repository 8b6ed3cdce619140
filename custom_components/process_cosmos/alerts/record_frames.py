"""Frames of the record log: length and CRC-32 of the payload (big endian, 4 bytes each), then the payload."""

import re
import struct
import zlib
from collections.abc import Iterable, Iterator

_FRAME = struct.Struct(">II")
_PAYLOAD = re.compile(rb'\[\["|\{"')
"""Start of every payload; used to find the next frame after a damaged one."""


def encode_frame(payload: bytes) -> bytes:
    """Return the frame of ``payload``."""
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def encode_batch(lines: Iterable[bytes]) -> bytes:
    """Return one frame that contains a JSON list of ``lines``."""
    return encode_frame(b"[" + b",".join(lines) + b"]")


def find_frames(content: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield (offset, end offset, payload) of each valid frame, skipping all other bytes."""
    begin = 0
    while begin + _FRAME.size < len(content):
        length, checksum = _FRAME.unpack_from(content, begin)
        end = begin + _FRAME.size + length
        payload = content[begin + _FRAME.size : end]
        # Eight zero bytes would be a valid frame (the CRC-32 of nothing is 0), hence the check of the payload's start.
        if len(payload) == length and zlib.crc32(payload) == checksum and _PAYLOAD.match(payload):
            yield begin, end, payload
            begin = end
        elif found := _PAYLOAD.search(content, begin + _FRAME.size + 1):
            begin = found.start() - _FRAME.size
        else:
            return
