"""Events are stored once permanently, and every arrival is logged."""

import asyncio
import gzip
import io
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import apsw
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_cloud.arrivals import read_arrivals
from process_cosmos_cloud.batches import split_batch
from process_cosmos_cloud.bodies import MAX_BODY
from process_cosmos_cloud.serving import DATABASE
from process_cosmos_gateway.contract.errors import ContractError

from .conftest import OTHER, SITE
from .endpoint import BATCH, Site, event, joined, said


async def test_a_repeated_event_is_stored_once_and_both_arrivals_are_logged(
    site: Site, connection: apsw.Connection
) -> None:
    assert await site.send([event(1, SITE), event(2, SITE)]) == ["accepted", "accepted"]
    assert await site.send([event(2, SITE), event(3, SITE)]) == ["duplicate", "accepted"]

    arrivals = list(read_arrivals(connection))

    assert [(int(arrival.id[3:]), arrival.duplicate) for arrival in arrivals] == [
        (1, False),
        (2, False),
        (2, True),
        (3, False),
    ]
    assert (arrivals[0].site, arrivals[0].type, arrivals[0].data) == (
        SITE,
        "process_cosmos.alert.opened.v1",
        {"number": 1},
    )


@pytest.mark.parametrize("name", [DATABASE, f"{DATABASE}-wal"])
async def test_nothing_is_accepted_into_a_file_that_was_deleted(site: Site, folder: Path, name: str) -> None:
    assert await site.send([event(1, SITE)]) == ["accepted"]
    (folder / name).unlink()
    status, problem = await site.post(joined([event(2, SITE)]), BATCH)
    assert (status, problem["code"]) == (503, "store_failed")


async def test_an_event_twice_in_one_batch_is_stored_once(site: Site) -> None:
    assert await site.send([event(1, SITE), event(1, SITE)]) == ["accepted", "duplicate"]


@pytest.mark.parametrize(
    ("item", "code"),
    [
        (17, "malformed"),
        ({}, "malformed"),
        (event(2, SITE, specversion="0.3"), "malformed"),
        (event(2, SITE, id=""), "malformed"),
        (event(2, SITE, id="x" * 129), "malformed"),
        (event(2, SITE, type=7), "malformed"),
        (event(2, SITE, time="yesterday"), "malformed"),
        (event(2, SITE, time="2026-11-22T10:00:00"), "malformed"),
        (event(2, SITE, time=7), "malformed"),
        (event(2, SITE, subject=7), "malformed"),
        (event(2, OTHER), "not_allowed"),
    ],
)
async def test_a_poison_event_is_rejected_alone(site: Site, item: object, code: str) -> None:
    status, reply = await site.post(joined([event(1, SITE), item, event(3, SITE)]))

    assert status == 200
    assert said(reply, 3) == ["accepted", "rejected", "accepted"]
    assert reply["rejected"][0]["problem"]["code"] == code


async def test_json_of_another_encoder_is_accepted(site: Site) -> None:
    body = orjson.dumps([event(1, SITE), event(2, SITE, data={"text": ",\n"})], option=orjson.OPT_INDENT_2)
    status, reply = await site.post(body)
    assert status == 200
    assert said(reply, 2) == ["accepted", "accepted"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'[{"specversion":"1.0","id":"01K', BATCH, 400),
        (b"{}", BATCH, 400),
        (b"\xff\xfe", BATCH, 400),
        (b"<!doctype html><html></html>", {"Content-Type": "text/html"}, 415),
    ],
)
async def test_an_invalid_body_is_refused_with_a_code_and_not_stored(
    site: Site, connection: apsw.Connection, body: bytes, headers: dict[str, str], status: int
) -> None:
    got, problem = await site.post(body, headers)

    assert (got, problem["status"], problem["code"]) == (status, status, "malformed")
    assert list(read_arrivals(connection)) == []


async def test_a_body_over_the_limit_is_refused_as_too_large(site: Site) -> None:
    got, problem = await site.post(io.BytesIO(b"[" + b" " * MAX_BODY + b"]"), BATCH)

    assert (got, problem["code"]) == (413, "too_large")


async def test_a_compressed_body_is_refused_without_decompressing_it(site: Site) -> None:
    bomb = gzip.compress(b"[" + b" " * (64 << 20) + b"]")
    got, problem = await site.post(bomb, BATCH | {"Content-Encoding": "gzip"})

    assert (got, problem["code"]) == (415, "malformed")


async def test_a_long_certificate_request_is_refused(site: Site) -> None:
    site.url = site.url.replace("/v1/events", "")
    for path in ("enroll", "renew"):
        address = urlsplit(site.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=site.tls())
        writer.write(b"POST /v1/%s HTTP/1.1\r\nHost: cloud\r\nContent-Length: 7900000\r\n\r\n{" % path.encode())
        assert b" 413 " in await reader.readline()
        writer.transport.abort()


async def test_an_event_of_a_megabyte_is_accepted(site: Site) -> None:
    assert await site.send([event(1, SITE, data="x" * 1_000_000)]) == ["accepted"]


async def test_an_incomplete_body_is_not_stored_and_the_next_one_is(site: Site, connection: apsw.Connection) -> None:
    address = urlsplit(site.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port, ssl=site.tls())
    body = joined([event(1, SITE)])
    writer.write(
        b"POST /v1/events HTTP/1.1\r\nHost: cloud\r\nContent-Type: application/cloudevents-batch+json\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body[:-20]
    )
    await writer.drain()
    writer.transport.abort()
    assert await reader.read() == b""

    assert await site.send([event(2, SITE)]) == ["accepted"]
    assert [int(arrival.id[3:]) for arrival in read_arrivals(connection)] == [2]


async def test_an_unknown_path_is_answered_with_problem_details(site: Site) -> None:
    site.url += "/elsewhere"
    status, problem = await site.post(b"[]")
    assert (status, problem["code"]) == (404, "not_found")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(_JSON, max_size=5), st.sampled_from([joined, orjson.dumps, lambda x: orjson.dumps(x, option=2)]))
def test_a_batch_is_split_into_its_items(items: list[object], encode_fn: Callable[[object], bytes]) -> None:
    assert [document for _, document in split_batch(encode_fn(items))] == items


@given(st.binary(max_size=40))
def test_splitting_any_bytes_agrees_with_orjson(body: bytes) -> None:
    try:
        expected = orjson.loads(body)
    except orjson.JSONDecodeError:
        expected = None
    if isinstance(expected, list):
        assert [document for _, document in split_batch(body)] == expected
    else:
        with pytest.raises(ContractError):
            list(split_batch(body))


async def test_a_header_that_is_not_ascii_is_refused_and_the_next_batch_accepted(site: Site) -> None:
    status, reply = await site.post(joined([event(1, SITE)]), BATCH | {"Process-Cosmos-Epoch": "é"})
    assert (status, reply["code"]) == (400, "malformed")
    assert await site.send([event(1, SITE)]) == ["accepted"]
