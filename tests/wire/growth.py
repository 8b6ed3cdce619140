"""Messages as a newer peer would send them: with a new value of each enum and a new member in each object."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from enum import StrEnum
from types import NoneType, UnionType
from typing import Any, TypeAliasType, get_args, get_origin, get_type_hints

import orjson

from process_cosmos_gateway.contract.codec import Json

from .schemas import BODIES, MESSAGES, TOP

NEW_MEMBER = "mood"
NEW_VALUE = "of_the_future"

GOLDEN: Mapping[str, bytes] = {path.stem: path.read_bytes() for path in sorted((TOP / "wire/fixtures/valid").glob("*"))}
"""The golden messages and bodies, by the name of their file."""


def shape_of(name: str) -> type:
    """Return the dataclass of a golden message or body."""
    return {**MESSAGES, **BODIES}[name.partition(".")[0]]


@dataclass
class Growth:
    """A document of a newer peer. ``unknown``: paths of what was added; ``met``: the enums and dataclasses in it."""

    document: Any = None
    unknown: set[str] = field(default_factory=set)
    met: set[type] = field(default_factory=set)

    def grow(self, shape: Any, document: Any, path: str) -> Any:  # noqa: ANN401 - a type expression, JSON
        """Return ``document`` with a new value for each enum, and a new member in each object."""
        while isinstance(shape, TypeAliasType) and shape is not Json:
            shape = shape.__value__
        [shape] = [each for each in get_args(shape) if each is not NoneType] if is_optional(shape) else [shape]
        match document:
            case str() if isinstance(shape, type) and issubclass(shape, StrEnum):
                self.met.add(shape)
                self.unknown.add(path)
                return NEW_VALUE
            case dict() if isinstance(shape, type) and is_dataclass(shape):
                self.met.add(shape)
                self.unknown.add(f"{path}.{NEW_MEMBER}")
                hints = {"type": str, **get_type_hints(shape)}
                grown = {name: self.grow(hints[name], each, f"{path}.{name}") for name, each in document.items()}
                return {**grown, NEW_MEMBER: {"how": "good"}}
            case list() if get_origin(shape) is tuple:
                return [self.grow(get_args(shape)[0], each, f"{path}[{index}]") for index, each in enumerate(document)]
            case _:
                return document


def is_optional(shape: object) -> bool:
    """Return whether ``shape`` is a type or None."""
    return get_origin(shape) is UnionType and [*get_args(shape)[1:]] == [NoneType]


def grown(name: str) -> Growth:
    """Return a golden message or body as a newer peer would send it."""
    growth = Growth()
    kind = name.partition(".")[0]
    growth.document = growth.grow(shape_of(name), orjson.loads(GOLDEN[name]), kind if kind in MESSAGES else "$")
    return growth


def types_of(shape: Any) -> Iterator[type]:  # noqa: ANN401 - a type expression
    """Yield the dataclasses and enums within a type expression."""
    if isinstance(shape, TypeAliasType):
        yield from () if shape is Json else types_of(shape.__value__)
    elif isinstance(shape, type) and issubclass(shape, StrEnum):
        yield shape
    elif isinstance(shape, type) and is_dataclass(shape):
        yield shape
        hints = get_type_hints(shape)
        for each in fields(shape):
            yield from types_of(hints[each.name])
    else:
        for each in get_args(shape):
            yield from types_of(each)
