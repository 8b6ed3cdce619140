"""Packs of readings: merged by key, contradictions kept, for ever."""

from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest

from process_cosmos_cloud.arrivals import read_arrivals
from process_cosmos_cloud.readings import read_readings

from .conftest import OTHER, SITE, new_code
from .endpoint import Site, event, run_command


def pack(number: int, *records: dict[str, Any], site: str = SITE) -> dict[str, object]:
    """Return one pack."""
    return event(
        number,
        site,
        type="process_cosmos.readings.v1",
        datacontenttype="application/senml+json",
        data=list(records),
    )


def kept(connection: apsw.Connection) -> list[tuple[str, str, float, object, bool]]:
    """Return what is kept, without what is told elsewhere."""
    return [
        (reading.device, reading.property, reading.time, reading.value, reading.conflict)
        for reading in read_readings(connection)
    ]


async def test_a_pack_is_taken_apart_into_readings_with_base_fields_resolved(
    site: Site, connection: apsw.Connection
) -> None:
    await site.send(
        [
            pack(
                1,
                {"bn": "cellar/", "bt": 1000.0, "bu": "Cel", "bv": 20.0, "n": "temperature", "v": 1.5},
                {"n": "temperature", "t": 10.0, "v": 2.0},
                {"n": "door", "vs": "open", "u": ""},
                {"bn": "attic/", "bt": 5.0, "n": "wet", "vb": True},
            )
        ]
    )

    assert kept(connection) == [
        ("attic", "wet", 5.0, True, False),
        ("cellar", "door", 1000.0, "open", False),
        ("cellar", "temperature", 1000.0, 21.5, False),
        ("cellar", "temperature", 1010.0, 22.0, False),
    ]
    assert {reading.unit for reading in read_readings(connection) if reading.property == "temperature"} == {"Cel"}


async def test_a_reading_that_comes_again_in_another_pack_is_one_and_another_value_is_a_conflict(
    site: Site, connection: apsw.Connection
) -> None:
    record = {"n": "cellar/temperature", "t": 1000.0, "v": 21}
    await site.send([pack(1, record), pack(2, record, {**record, "v": 21.0}, {**record, "v": 22.0})])

    assert kept(connection) == [
        ("cellar", "temperature", 1000.0, 21.0, True),
        ("cellar", "temperature", 1000.0, 22.0, True),
    ]


async def test_a_truth_is_no_one_and_a_text_no_number(site: Site, connection: apsw.Connection) -> None:
    name = {"n": "cellar/level", "t": 1.0}
    await site.send([pack(1, {**name, "v": 1}, {**name, "vb": True}, {**name, "vs": "1"})])
    assert [value for *_, value, _ in kept(connection)] == [1.0, "1", True]


async def test_readings_of_two_sites_never_meet(
    site: Site, url: str, folder: Path, connection: apsw.Connection
) -> None:
    other = Site.new(OTHER, url)
    await other.enrol(new_code(folder, url))
    record = {"n": "cellar/temperature", "t": 1000.0, "v": 21.5}

    await site.send([pack(1, record)])
    await other.send([pack(1, {**record, "v": 3.0}, site=OTHER)])

    assert [(reading.site, reading.conflict) for reading in read_readings(connection)] == [
        (SITE, False),
        (OTHER, False),
    ]


@pytest.mark.parametrize(
    "data",
    [
        7,
        [7],
        [{"n": "cellar/level"}],
        [{"n": "level", "v": 1}],
        [{"n": "/level", "v": 1}],
        [{"n": "cellar/", "v": 1}],
        [{"n": "//level", "v": 1}],
        [{"n": "attic/cellar/level", "v": 1}],
        [{"n": 7, "v": 1}],
        [{"n": "cellar/level", "v": "1"}],
        [{"n": "cellar/level", "v": True}],
        [{"n": "cellar/level", "vb": 1}],
        [{"n": "cellar/level", "v": 1, "t": "now"}],
        [{"bver": 11, "n": "cellar/level", "v": 1}],
        [{"bn": None, "n": "cellar/level", "v": 1}],
    ],
    ids=str,
)
async def test_a_broken_pack_is_rejected_whole_and_alone(site: Site, connection: apsw.Connection, data: object) -> None:
    broken = {**pack(2), "data": data}
    good = {"n": "cellar/level", "t": 1.0, "v": 5.0}
    assert await site.send([pack(1, good), broken, pack(3, good)]) == ["accepted", "rejected", "accepted"]
    assert kept(connection) == [("cellar", "level", 1.0, 5.0, False)]


async def test_the_ledger_shows_packs_and_readings(site: Site, connection: apsw.Connection, folder: Path) -> None:
    record = {"n": "cellar/temperature", "u": "Cel", "t": 1000.0, "v": 21.5}
    await site.send([event(1, SITE), pack(2, record, {**record, "v": 22.0})])

    assert [arrival.readings for arrival in read_arrivals(connection)] == [0, 2]
    assert "[2 readings]" in await run_command(folder, "ledger")
    text = (await run_command(folder, "ledger", "--readings")).splitlines()
    assert text[0].endswith("cellar/temperature  21.5 Cel  (conflict)")
    rows = [orjson.loads(line) for line in (await run_command(folder, "ledger", "--readings", "--json")).splitlines()]
    assert [(row["device"], row["value"], row["arrival"]) for row in rows] == [("cellar", 21.5, 2), ("cellar", 22.0, 2)]


async def test_readings_of_two_devices_whose_joined_names_look_alike_stay_apart(
    site: Site, folder: Path, connection: apsw.Connection
) -> None:
    names = ["wot/kitchen%2Fleak", "wot%2Fkitchen/leak", "100%25/level", "a%2fb/level"]
    await site.send([pack(1, *({"n": name, "t": 1.0, "v": number} for number, name in enumerate(names)))])
    assert kept(connection) == [
        ("100%", "level", 1.0, 2.0, False),
        ("a%2fb", "level", 1.0, 3.0, False),
        ("wot", "kitchen/leak", 1.0, 0.0, False),
        ("wot/kitchen", "leak", 1.0, 1.0, False),
    ]
    said = await run_command(folder, "ledger", "--readings")
    assert [line.split("  ")[2] for line in said.splitlines()] == ["100%25/level", "a%252fb/level", *names[:2]]
