"""Parser for payloads: a JSON value, or a list of SenML records (RFC 8428) with the device's own times."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from process_cosmos_gateway.contract.bounds import TooDeepError, check_depth
from process_cosmos_gateway.contract.devices import PropertyKind, Value
from process_cosmos_gateway.errors import GatewayError

MAX_BYTES = 64 * 1024
"""Bytes of the longest payload accepted."""

MAX_RECORDS = 2000
"""Records of the longest SenML list accepted: a message is stored in one transaction, which urgent events wait for."""

MAX_TEXT_BYTES = 1024
"""Bytes of the longest text as JSON: 256 of them, with their descriptions, fit into one frame to Home Assistant."""

_SENML_VERSION = 10
# RFC 8428, section 4.5.3: smaller times are relative to now.
_ABSOLUTE_FROM = 1 << 28
_MAX_EXACT = 1 << 53
# The last second that a datetime can represent.
_LATEST = 253_402_300_799.0
_SENML_VALUES: Mapping[PropertyKind, str] = {
    PropertyKind.BOOLEAN: "vb",
    PropertyKind.NUMBER: "v",
    PropertyKind.TEXT: "vs",
}


class GarbageError(GatewayError):
    """An invalid payload for its property; the message does not repeat its content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A value and its time in seconds since 1970: by the device's clock, else the time of receipt."""

    value: Value
    time: float


def parse_readings(kind: PropertyKind, payload: bytes, received: float) -> tuple[Reading, ...]:
    """Return the readings in ``payload``, at least one, in its order; raise ``GarbageError``."""
    document = parse_json(payload)
    if isinstance(document, list):
        return tuple(_senml(kind, document, received))
    return (Reading(value=validate_value(kind, document), time=received),)


def parse_json(payload: bytes) -> Any:  # noqa: ANN401 - JSON
    """Parse a payload of at most ``MAX_BYTES`` and ``MAX_DEPTH`` levels; raise ``GarbageError``."""
    if len(payload) > MAX_BYTES:
        raise GarbageError(f"the payload is longer than {MAX_BYTES} bytes")
    try:
        document = orjson.loads(payload)
        check_depth(payload, document)
    except orjson.JSONDecodeError as error:
        raise GarbageError("the payload is not valid JSON") from error
    except TooDeepError as error:
        raise GarbageError(error.reason) from error
    return document


def event_value(document: object) -> Value | None:
    """Return ``document`` as the value of a device event; None: Home Assistant cannot show it."""
    for kind in PropertyKind:
        with suppress(GarbageError):
            return validate_value(kind, document)
    return None


def validate_value(kind: PropertyKind, value: object) -> Value:
    """Return ``value`` if it is valid for a property of this kind; raise ``GarbageError``."""
    match kind, value:
        case PropertyKind.BOOLEAN, bool(fit):
            return fit
        case PropertyKind.TEXT, str(text):
            if is_too_long(text):
                raise GarbageError(f"the text is longer than {MAX_TEXT_BYTES} bytes")
            return text
        # A bool is an int for Python, but not a number in JSON.
        case PropertyKind.NUMBER, int(number) | float(number) if math.isfinite(number) and number is not bool(number):
            # A float always fits into the store, a whole number only up to 64 bits.
            return number if abs(number) <= _MAX_EXACT else float(number)
        case _:
            raise GarbageError(f"the value is not a {kind}")


def is_too_long(text: str) -> bool:
    """Return whether a text is longer than a property's value may be."""
    return len(text) > MAX_TEXT_BYTES or len(orjson.dumps(text)) - 2 > MAX_TEXT_BYTES


def _senml(kind: PropertyKind, records: Sequence[object], received: float) -> list[Reading]:
    if len(records) > MAX_RECORDS:
        raise GarbageError(f"the SenML has more than {MAX_RECORDS} records")
    readings = []
    base_time = base_value = 0.0
    for record in records:
        # RFC 8428: a receiver must refuse a field it does not know if its label ends with an underscore.
        if not isinstance(record, dict) or any(name.endswith("_") for name in record):
            raise GarbageError("the SenML has fields that this gateway does not support")
        if _real(record, "bver", _SENML_VERSION) > _SENML_VERSION:
            raise GarbageError("the SenML version is not supported")
        base_time = _real(record, "bt", base_time)
        base_value = _real(record, "bv", base_value)
        if (value := record.get(_SENML_VALUES[kind])) is None:
            continue
        if kind is PropertyKind.NUMBER:
            value = _real(record, "v", 0.0) + base_value
        time = base_time + _real(record, "t", 0.0)
        moment = time if time >= _ABSOLUTE_FROM else received + time
        readings.append(Reading(value=validate_value(kind, value), time=min(max(moment, 0.0), _LATEST)))
    if not readings:
        raise GarbageError(f"the SenML has no {kind}")
    return readings


def _real(record: Mapping[str, object], name: str, default: float) -> float:
    number = record.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise GarbageError(f"{name} is not a number")
    return float(number)
