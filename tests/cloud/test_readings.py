"""Reading batches: repeats are stored once, conflicting values are all stored, permanently."""

from pathlib import Path
from typing import Any

import apsw
import orjson
import pytest

from process_cosmos_cloud.arrivals import read_arrivals
from process_cosmos_cloud.readings import read_readings

from .conftest import OTHER, SITE, new_code
from .endpoint import Site, event, run_command


def reading_batch(number: int, *records: dict[str, Any], site: str = SITE) -> dict[str, object]:
    """Return one reading batch."""
    return event(
        number,
        site,
        type="process_cosmos.readings.v1",
        datacontenttype="application/senml+json",
        data=list(records),
    )


def kept(connection: apsw.Connection) -> list[tuple[str, str, float, object, bool]]:
    """Return the stored readings without site, unit and arrival."""
    return [
        (reading.device, reading.property, reading.time, reading.value, reading.conflict)
        for reading in read_readings(connection)
    ]


async def test_base_fields_of_a_reading_batch_are_resolved(site: Site, connection: apsw.Connection) -> None:
    await site.send(
        [
            reading_batch(
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


async def test_a_repeated_reading_is_stored_once_and_another_value_is_a_conflict(
    site: Site, connection: apsw.Connection
) -> None:
    record = {"n": "cellar/temperature", "t": 1000.0, "v": 21}
    await site.send([reading_batch(1, record), reading_batch(2, record, {**record, "v": 21.0}, {**record, "v": 22.0})])

    assert kept(connection) == [
        ("cellar", "temperature", 1000.0, 21.0, True),
        ("cellar", "temperature", 1000.0, 22.0, True),
    ]


async def test_booleans_strings_and_numbers_are_different_values(site: Site, connection: apsw.Connection) -> None:
    name = {"n": "cellar/level", "t": 1.0}
    await site.send([reading_batch(1, {**name, "v": 1}, {**name, "vb": True}, {**name, "vs": "1"})])
    assert [value for *_, value, _ in kept(connection)] == [1.0, "1", True]


async def test_readings_of_two_sites_are_separate(
    site: Site, url: str, folder: Path, connection: apsw.Connection
) -> None:
    other = Site.new(OTHER, url)
    await other.enrol(new_code(folder, url))
    record = {"n": "cellar/temperature", "t": 1000.0, "v": 21.5}

    await site.send([reading_batch(1, record)])
    await other.send([reading_batch(1, {**record, "v": 3.0}, site=OTHER)])

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
async def test_an_invalid_reading_batch_is_rejected_alone(
    site: Site, connection: apsw.Connection, data: object
) -> None:
    broken = {**reading_batch(2), "data": data}
    good = {"n": "cellar/level", "t": 1.0, "v": 5.0}
    assert await site.send([reading_batch(1, good), broken, reading_batch(3, good)]) == [
        "accepted",
        "rejected",
        "accepted",
    ]
    assert kept(connection) == [("cellar", "level", 1.0, 5.0, False)]


async def test_the_ledger_shows_reading_batches_and_readings(
    site: Site, connection: apsw.Connection, folder: Path
) -> None:
    record = {"n": "cellar/temperature", "u": "Cel", "t": 1000.0, "v": 21.5}
    await site.send([event(1, SITE), reading_batch(2, record, {**record, "v": 22.0})])

    assert [arrival.readings for arrival in read_arrivals(connection)] == [0, 2]
    assert "[2 readings]" in await run_command(folder, "ledger")
    text = (await run_command(folder, "ledger", "--readings")).splitlines()
    assert text[0].endswith("cellar/temperature  21.5 Cel  (conflict)")
    rows = [orjson.loads(line) for line in (await run_command(folder, "ledger", "--readings", "--json")).splitlines()]
    assert [(row["device"], row["value"], row["arrival"]) for row in rows] == [("cellar", 21.5, 2), ("cellar", 22.0, 2)]


async def test_readings_of_two_devices_with_similar_joined_names_are_separate(
    site: Site, folder: Path, connection: apsw.Connection
) -> None:
    names = ["wot/kitchen%2Fleak", "wot%2Fkitchen/leak", "100%25/level", "a%2fb/level"]
    await site.send([reading_batch(1, *({"n": name, "t": 1.0, "v": number} for number, name in enumerate(names)))])
    assert kept(connection) == [
        ("100%", "level", 1.0, 2.0, False),
        ("a%2fb", "level", 1.0, 3.0, False),
        ("wot", "kitchen/leak", 1.0, 0.0, False),
        ("wot/kitchen", "leak", 1.0, 1.0, False),
    ]
    said = await run_command(folder, "ledger", "--readings")
    assert [line.split("  ")[2] for line in said.splitlines()] == ["100%25/level", "a%252fb/level", *names[:2]]
