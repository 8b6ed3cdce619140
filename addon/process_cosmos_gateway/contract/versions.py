"""Schema versions: what each side writes for a peer of an older one."""

from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass
from typing import Any

SCHEMA = 1
"""Schema version of this code; ``wire/CHANGELOG.md`` lists the changes of each version."""

MIN_SCHEMA = 1
"""Oldest schema version this code accepts."""

_ADDED_IN = "added_in"


def added_in(schema: int, default: Any) -> Any:  # noqa: ANN401 - any member
    """Return a dataclass field that ``schema`` added. A message that it added has a class variable ``added_in``."""
    return field(default=default, metadata={_ADDED_IN: schema})


def schema_of_type(message: object) -> int:
    """Return the schema that added this type of messages."""
    schema: int = getattr(message, _ADDED_IN, 1)
    return schema


def schema_of(message: Any) -> int:  # noqa: ANN401 - a dataclass
    """Return the oldest schema in which ``message`` says all it says: that of its type and of the members it uses."""
    used = (each.metadata.get(_ADDED_IN, 1) for each in fields(message) if getattr(message, each.name) != each.default)
    newest: int = max([schema_of_type(message), *used])
    return newest


def in_schema(value: Any, schema: int) -> Any:  # noqa: ANN401 - JSON
    """Return a dataclass, and all within it, as JSON without the members added after ``schema``."""
    if is_dataclass(value):
        known = (each.name for each in fields(value) if each.metadata.get(_ADDED_IN, 1) <= schema)
        return {name: in_schema(getattr(value, name), schema) for name in known}
    if isinstance(value, tuple | list):
        return [in_schema(each, schema) for each in value]
    if isinstance(value, Mapping):
        return {key: in_schema(each, schema) for key, each in value.items()}
    return value
