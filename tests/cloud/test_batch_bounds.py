"""Limits of one batch: its values are counted before parsing, and other sites are served meanwhile."""

import asyncio
import hashlib
import time
import tracemalloc
from io import BytesIO
from pathlib import Path

import apsw
import pytest

from process_cosmos_cloud.arrivals import read_arrivals
from process_cosmos_cloud.batches import MOST_CHARACTERS, MOST_VALUES, MOST_VALUES_IN_ALL, BatchReader
from process_cosmos_cloud.bodies import MAX_BODY
from process_cosmos_cloud.problems import ProblemError
from process_cosmos_gateway.contract.identifiers import Ulid

from .conftest import OTHER, SITE, new_code
from .endpoint import Site, endpoint_process, event, joined

MOST_BYTES = 150_000_000
"""The maximum memory of the endpoint according to SECURITY.md."""


def with_data(data: bytes) -> bytes:
    """Return an event as JSON with ``data`` as its data."""
    return joined([event(1, SITE, data="DATA")]).strip(b"[]").replace(b'"DATA"', data)


def wide_members(count: int) -> bytes:
    """Return an object whose keys and values take four bytes per character in memory."""
    wide = "😀".encode()
    return b"{" + b",".join(b'"%s%06d":"%s"' % (wide, number, wide) for number in range(count)) + b"}"


HOSTILE = {
    "an unclosed string of escaped quotes": b"[" + b"," * (MOST_VALUES + 1) + b'"' + b'\\"' * 40_000 + b"]",
    "a long string of brackets": b"[" + with_data(b'"' + b"[" * (MOST_VALUES + 1) + b"x" * 2_000_000 + b'"') + b"]",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_body_with_too_many_values_is_refused_without_parsing_it(name: str) -> None:
    tracemalloc.start()
    begun = time.monotonic()
    with pytest.raises(ProblemError, match=f"at most {MOST_VALUES} values"):
        BatchReader(HOSTILE[name], Ulid(SITE)).read_some()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - begun < 2
    assert peak < 2 * len(HOSTILE[name]) + 1_000_000


async def test_the_most_expensive_batches_use_no_more_memory_than_documented(tmp_path: Path) -> None:
    longest_event = with_data(wide_members((MAX_BODY - 1_000) // 20))
    assert 0.9 * MAX_BODY < len(longest_event) < MAX_BODY
    async with endpoint_process(tmp_path) as endpoint:
        site = Site.new(SITE, endpoint.url)
        await site.enrol(await endpoint.code())
        for begin in [b"[", b"[0, "] * 3:  # joined as the gateway does it, and as another encoder does
            status, _ = await site.post(BytesIO(begin + longest_event + b"]"))
            assert status == 200
        assert endpoint.process
        state = Path(f"/proc/{endpoint.process.pid}/status").read_text()
    [kibibytes] = [int(line.split()[1]) for line in state.splitlines() if line.startswith("VmHWM:")]
    assert kibibytes * 1024 < MOST_BYTES


def test_a_body_is_not_parsed_before_its_sites_turn() -> None:
    body = joined([event(1, SITE)])
    reader = BatchReader(body, Ulid(SITE))
    assert reader.batch.sha256 == ""
    assert reader.read_some()
    assert reader.batch.sha256 == hashlib.sha256(body).hexdigest()


COMMAS = 400_000
"""Commas of a body that passes the first limit, which is checked while the body is received."""

DENSE = {
    "numbers": (b"0," * COMMAS + b"0", 413),
    "objects": (b"{}," * COMMAS + b"0", 413),
    "members": (b'{"":0},' * COMMAS + b"0", 413),
    "arrays joined as by the gateway": (b"[]" + b",\n[]" * COMMAS, 422),
}


@pytest.mark.parametrize("name", DENSE)
async def test_a_body_of_tiny_values_is_refused_before_it_is_parsed(
    site: Site, connection: apsw.Connection, name: str
) -> None:
    inner, expected = DENSE[name]
    assert len(inner) < MAX_BODY
    status, problem = await site.post(BytesIO(b"[" + inner + b"]"))
    assert status == expected
    assert problem["detail"].startswith(
        f"A batch has at most {MOST_VALUES} values per event" if expected == 413 else "More than 100 events"
    )
    assert list(read_arrivals(connection)) == []


async def test_a_body_of_a_million_commas_is_refused_while_it_is_received(site: Site) -> None:
    status, problem = await site.post(BytesIO(b"[" + b"0," * (MOST_VALUES_IN_ALL + 1) + b"0]"))
    assert (status, problem["detail"]) == (413, f"A batch has at most {MOST_VALUES_IN_ALL} values.")


async def test_names_and_units_of_a_batch_are_limited(site: Site, connection: apsw.Connection) -> None:
    records = [{"bn": "a/" + "x" * 100_000, "v": 1}, *[{"n": "y", "v": 1}] * 9]
    batches = [event(number, SITE, datacontenttype="application/senml+json", data=records) for number in range(9)]
    assert 100_000 * 10 * len(batches) > MOST_CHARACTERS
    status, problem = await site.post(BytesIO(joined(batches)))
    assert (status, problem["code"]) == (413, "too_large")
    assert f"{MOST_CHARACTERS} characters of names and units" in problem["detail"]
    assert list(read_arrivals(connection)) == []


async def test_another_site_is_served_while_a_large_batch_is_parsed(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Site.new(OTHER, site.url)
    await other.enrol(new_code(folder, site.url))
    slices, loop, at_work = [], asyncio.get_running_loop(), asyncio.Event()
    read_some = BatchReader.read_some

    def watched(self: BatchReader) -> bool:
        loop.call_soon_threadsafe(at_work.set)
        slices.append(self)
        return read_some(self, 0.0)  # an event at a time

    monkeypatch.setattr(BatchReader, "read_some", watched)
    large = joined([event(number, SITE, data=[{"a": 1}] * 9_000) for number in range(40)])
    flood = asyncio.create_task(site.post(BytesIO(large)))
    await at_work.wait()

    assert await other.send([event(1, OTHER)]) == ["accepted"]

    assert not flood.done()
    until_answered = len(slices)
    assert (await flood)[0] == 200
    assert len(slices) > until_answered
