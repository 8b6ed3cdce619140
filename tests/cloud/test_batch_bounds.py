"""What one batch can cost: its values are bounded before it is parsed, and others have their turn while it is read."""

import time
import tracemalloc
from pathlib import Path

import pytest

from process_cosmos_cloud.batches import (
    MOST_VALUES,
    BatchReader,
)
from process_cosmos_cloud.bodies import MAX_BODY
from process_cosmos_cloud.problems import ProblemError
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import SITE
from .endpoint import event, joined, run_python

MOST_BYTES = 140_000_000
"""What SECURITY.md says that a batch takes at the worst."""


def with_data(data: bytes) -> bytes:
    """Return an event as JSON with this text as its data."""
    return joined([event(1, SITE, data="DATA")]).strip(b"[]").replace(b'"DATA"', data)


def wide_members(count: int) -> bytes:
    """Return an object whose keys and values take four bytes a character in memory."""
    wide = "😀".encode()
    return b"{" + b",".join(b'"%s%013d":"%s%013d"' % (wide, number, wide, number) for number in range(count)) + b"}"


HOSTILE = {
    "an unclosed string of escaped quotes": b"[" + b"," * (MOST_VALUES + 1) + b'"' + b'\\"' * 40_000 + b"]",
    "a long text of brackets": b"[" + with_data(b'"' + b"[" * (MOST_VALUES + 1) + b"x" * 2_000_000 + b'"') + b"]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_may_hold_too_many_values_is_refused_without_work_and_without_memory(name: str) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(ProblemError, match=f"at most {MOST_VALUES} values"):
        BatchReader(HOSTILE[name], Ulid(SITE)).read_some()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - begun < 2
    assert peak < 2 * len(HOSTILE[name]) + 1_000_000


MEASURE = """
import resource, sys, time
from pathlib import Path
from process_cosmos_cloud.batches import BatchReader
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
reader = BatchReader(Path(sys.argv[1]).read_bytes(), sys.argv[2])
while not reader.read_some():
    pass
print(len(reader.batch.items), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("begin", [b"[", b"[1, "], ids=["our own encoder", "another encoder"])
async def test_the_batch_that_costs_most_takes_no_more_memory_than_is_documented(begin: bytes, tmp_path: Path) -> None:
    body = begin + with_data(wide_members(MOST_VALUES - 1_000)) + b"]"
    assert 0.9 * MAX_BODY < len(body) < MAX_BODY
    file = tmp_path / "body"
    file.write_bytes(body)
    items, kilobytes = map(int, (await run_python("-c", MEASURE, str(file), SITE)).split())
    assert items == 1
    assert kilobytes * 1024 < MOST_BYTES
