"""Write ``wire/schemas/*.json`` (JSON Schema 2020-12) from the contract's dataclasses.

``--check`` writes nothing: it lists the differences and exits with 1. ``scripts/schemas`` runs it.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from enum import StrEnum
from inspect import getdoc
from pathlib import Path
from types import NoneType
from typing import Any, TypeAliasType, get_args, get_origin, get_type_hints

import orjson

from process_cosmos_gateway.contract.alerts import AlertEvent
from process_cosmos_gateway.contract.cloud import BatchReceipt, Enrolled, EnrolmentRequest, InboxPage, RenewalRequest
from process_cosmos_gateway.contract.codec import MAX_TEXT, Json, is_required
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.local_programs import FROM_PRODUCER
from process_cosmos_gateway.contract.messages import FROM_GATEWAY, FROM_HOME_ASSISTANT
from process_cosmos_gateway.contract.pairing import Paired, PairingRequest
from process_cosmos_gateway.contract.session import Problem

TOP = Path(__file__).resolve().parents[2]
SCHEMAS = TOP / "wire/schemas"

BODIES: Mapping[str, type] = {
    "pairing_request": PairingRequest,
    "paired": Paired,
    "problem": Problem,
    "enrolment_request": EnrolmentRequest,
    "renewal_request": RenewalRequest,
    "enrolled": Enrolled,
    "batch_receipt": BatchReceipt,
    "inbox_page": InboxPage,
    "alert_event": AlertEvent,
}
"""HTTP bodies by the name of their schema; they have no ``type``."""

MESSAGES: Mapping[str, type] = {**FROM_HOME_ASSISTANT, **FROM_GATEWAY, **FROM_PRODUCER}
"""WebSocket messages by ``type``."""

SCALARS: Mapping[Any, dict[str, Any]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string", "maxLength": MAX_TEXT},
    NoneType: {"type": "null"},
    Ulid: {"type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Z]{25}$"},
    datetime: {"type": "string", "format": "date-time"},
    Json: {"description": "Any JSON."},
}


def schema_of(name: str, shape: type) -> dict[str, Any]:
    """Return the schema of one message or body, with the types it uses under ``$defs``."""
    definitions: dict[str, Any] = {}
    schema = _record(shape, definitions)
    if name in MESSAGES:
        schema["properties"] = {"type": {"const": name}, **schema["properties"]}
        schema["required"] = ["type", *schema["required"]]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name}
    return {**head, **schema, **({"$defs": dict(sorted(definitions.items()))} if definitions else {})}


def _expression(shape: Any, definitions: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - a type expression
    if shape in SCALARS:
        return SCALARS[shape]
    if isinstance(shape, TypeAliasType):
        return _expression(shape.__value__, definitions)
    arguments = get_args(shape)
    if get_origin(shape) is tuple:
        return {"type": "array", "items": _expression(arguments[0], definitions)}
    if get_origin(shape) is Mapping:
        return {"type": "object", "additionalProperties": _expression(arguments[1], definitions)}
    if arguments:
        return {"anyOf": [_expression(argument, definitions) for argument in arguments]}
    if shape.__name__ not in definitions:
        definitions[shape.__name__] = {}  # a placeholder, for types that contain themselves
        definitions[shape.__name__] = _choice(shape) if issubclass(shape, StrEnum) else _record(shape, definitions)
    return {"$ref": f"#/$defs/{shape.__name__}"}


def _choice(shape: type[StrEnum]) -> dict[str, Any]:
    return {"description": getdoc(shape), "enum": [member.value for member in shape]}


def _record(shape: type, definitions: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(shape)
    return {
        "description": getdoc(shape),
        "type": "object",
        "properties": {field.name: _expression(hints[field.name], definitions) for field in fields(shape)},
        "required": [field.name for field in fields(shape) if is_required(field)],
    }


def schema_files() -> Iterator[tuple[Path, bytes]]:
    """Yield the path and the expected content of each schema file."""
    for name, shape in sorted({**MESSAGES, **BODIES}.items()):
        yield SCHEMAS / f"{name}.json", orjson.dumps(schema_of(name, shape), option=orjson.OPT_INDENT_2) + b"\n"


def main() -> int:
    """Write differing files, or only list them with ``--check``; return the exit code."""
    check = sys.argv[1:] == ["--check"]
    wanted = dict(schema_files())
    SCHEMAS.mkdir(parents=True, exist_ok=True)
    present = {path: path.read_bytes() for path in SCHEMAS.glob("*.json")}
    differing = sorted(path for path in wanted.keys() | present.keys() if wanted.get(path) != present.get(path))
    for path in differing:
        complaint = "differs from the contract" if path in wanted else "belongs to no message"
        sys.stdout.write(f"{path.relative_to(TOP)} {complaint}\n")
        if not check:
            path.write_bytes(wanted[path]) if path in wanted else path.unlink()
    return 1 if check and differing else 0


if __name__ == "__main__":
    sys.exit(main())
