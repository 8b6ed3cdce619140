"""Parses reading batches (SenML, RFC 8428) and stores the readings permanently, without repeats."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid, split_names

from .database import Connection

CONTENT_TYPE = "application/senml+json"
NEWEST_VERSION = 10

MOST_RECORDS = 5_000
"""Records per reading batch: ten times as many as the gateway sends."""

MOST_CHARACTERS = 1 << 20
"""Characters of names and units per reading batch. A long base name counts in each of its records."""

EARLIEST = 0.0
LATEST = 253_402_300_799.0
"""Bounds of a reading's time in seconds since 1970: the years 1970 to 9999, which can be shown as a date."""

SERIES_AT_ONCE = 2_000
"""New series per transaction, about 10 ms. 30,000 at once would block other sites for 0.2 s."""

type Value = float | str
"""A number, or JSON of a string or a boolean."""

type SeriesNumbers = dict[tuple[str, str], int]
"""Series numbers by device and property. Series are never deleted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReading:
    """One stored reading. ``conflict``: another value with the same time is stored too."""

    site: str
    device: str
    property: str
    time: float
    value: object
    unit: str | None
    arrival: int
    conflict: bool


@dataclass(frozen=True, slots=True)
class SenMLRecord:
    """One SenML record with resolved base fields; ``name``: device and property."""

    name: tuple[str, str]
    unit: str | None
    time: float
    value: Value


def parse_records(data: object) -> list[SenMLRecord]:
    """Parse the data of a reading batch and resolve base fields; raise ``ContractError`` if it is not valid SenML."""
    if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
        raise ContractError("$.data", "must be an array of SenML records")
    if len(data) > MOST_RECORDS:
        raise ContractError("$.data", f"must not have more than {MOST_RECORDS} records", Code.TOO_LARGE)
    characters = 0
    name, unit, time, value = "", None, 0.0, 0.0
    records = []
    for index, item in enumerate(data):
        path = f"$.data[{index}]"
        if _number(item, "bver", NEWEST_VERSION, path) > NEWEST_VERSION:
            raise ContractError(path, "must be SenML of version 10")
        name, unit = _text(item, "bn", name, path), _text(item, "bu", unit, path)
        time, value = _number(item, "bt", time, path), _number(item, "bv", value, path)
        own, own_unit = _text(item, "n", "", path), _text(item, "u", unit, path)
        characters += len(name) + len(own) + len(own_unit or "")
        if characters > MOST_CHARACTERS:
            reason = f"must not have more than {MOST_CHARACTERS} characters of names and units"
            raise ContractError("$.data", reason, Code.TOO_LARGE)
        names = _parse_name(f"{name}{own}", path)
        at = time + _number(item, "t", 0.0, path)
        if not EARLIEST <= at <= LATEST:
            raise ContractError(path, "must have a time of the years 1970 to 9999")
        records.append(SenMLRecord(names, own_unit, at, _value(item, value, path)))
    return records


def _parse_name(name: str, path: str) -> tuple[str, str]:
    """Return device and property of a SenML name, in which both are percent-encoded."""
    match split_names(name):
        case [device, last] if device and last:
            return device, last
        case _:
            raise ContractError(path, "must be named <device>/<property>")


def _value(item: Mapping[str, Any], base: float, path: str) -> Value:
    if "v" in item:
        value = base + _number(item, "v", 0.0, path)
        if not math.isfinite(value):
            raise ContractError(path, "must hold a finite value")
        return value
    for name, kind in (("vs", str), ("vb", bool)):
        if isinstance(item.get(name), kind):
            return orjson.dumps(item[name]).decode()
    raise ContractError(path, "must hold v, vs or vb")


def _number(item: Mapping[str, Any], name: str, default: float, path: str) -> float:
    value = item.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ContractError(f"{path}.{name}", "must be a number")
    return float(value)


def _text[T: (str, str | None)](item: Mapping[str, Any], name: str, default: T, path: str) -> T:
    value = item.get(name, default)
    if value is not default and not isinstance(value, str):
        raise ContractError(f"{path}.{name}", "must be a text")
    return value


def insert_readings(
    connection: Connection, site: Ulid, records: Sequence[SenMLRecord], arrival: int, numbers: SeriesNumbers
) -> None:
    """Store readings keyed by (site, device, property, time, value).

    A repeated reading is ignored; contradicting values of one time are both stored. ``numbers``: the series resolved
    so far; missing ones are added.
    """
    resolve_series(connection, site, records, numbers)
    connection.executemany(
        "INSERT OR IGNORE INTO reading (series, time, value, arrival) VALUES (?, ?, ?, ?)",
        [(numbers[record.name], record.time, record.value, arrival) for record in records],
    )


def resolve_series(connection: Connection, site: Ulid, records: Sequence[SenMLRecord], numbers: SeriesNumbers) -> None:
    """Add the series of ``records`` to ``numbers``, creating those that the site does not have yet."""
    for record in records:
        if record.name not in numbers:
            numbers[record.name] = _series_number(connection, site, record)


def _series_number(connection: Connection, site: Ulid, record: SenMLRecord) -> int:
    # Not DO NOTHING, because RETURNING yields no row for an insert that was ignored.
    number: int = connection.execute(
        "INSERT INTO series (site, device, property, unit) VALUES (?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET unit = coalesce(excluded.unit, unit) RETURNING number",
        (site, *record.name, record.unit),
    ).get
    return number


def _decode_value(value: Value) -> object:
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(value) if isinstance(value, str) else value
    return value


def read_readings(connection: Connection) -> Iterator[StoredReading]:
    """Yield all readings, ordered by site, device, property and time."""
    for site, device, name, time, value, unit, arrival, conflict in connection.execute(
        "SELECT site, device, property, time, value, unit, arrival,"
        " EXISTS (SELECT 1 FROM reading other WHERE other.series = reading.series AND other.time = reading.time"
        "   AND other.value <> reading.value)"
        " FROM reading JOIN series ON series.number = reading.series ORDER BY site, device, property, time, value"
    ):
        yield StoredReading(
            site=site,
            device=device,
            property=name,
            time=time,
            value=_decode_value(value),
            unit=unit,
            arrival=arrival,
            conflict=bool(conflict),
        )
