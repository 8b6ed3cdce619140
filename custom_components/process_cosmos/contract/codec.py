"""Conversion between JSON and the contract's dataclasses: strict for stored data, lenient for what a peer sends."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, Protocol, TypeAliasType, Union, get_args, get_origin, get_type_hints

import orjson

from .bounds import MAX_DEPTH, MOST_SIGNED, NoteFn, TooDeepError, bounded, check_depth, write_json
from .errors import ContractError, UnknownTypeError
from .identifiers import Ulid, is_ulid
from .versions import SCHEMA, in_schema

MAX_FRAME = 1 << 20
"""Bytes of the longest frame either side sends or accepts."""

MAX_TEXT = 1 << 16
"""Characters of the longest string in a frame."""

_FIRST_YEAR = 2
_LAST_YEAR = 9998
"""Years in which a time with any UTC offset can be represented by Python."""

_LEFT_OUT = object()

type Json = bool | int | float | str | list[Json] | dict[str, Json] | None
type Parser = Callable[[Any, str, NoteFn | None], Any]


class Message(Protocol):
    """Protocol of a message dataclass (see ``messages``) with its ``type`` tag."""

    type: ClassVar[str]


def encode(message: Message, schema: int = SCHEMA) -> bytes:
    """Return ``message`` as one JSON object whose first member is ``type``; see ``bounds.write_json``.

    ``schema``: that of the receiver; what was added after it is left out.
    """
    # orjson leaves out class variables, and so the tag.
    body = write_json(message if schema >= SCHEMA else in_schema(message, schema))
    tag = orjson.dumps({"type": message.type})
    return tag if body == b"{}" else tag[:-1] + b"," + body[1:]


def decode[M](
    frame: bytes | str, table: Mapping[str, type[M]], *, cuts: bool = False, note_fn: NoteFn | None = None
) -> M:
    """Parse one frame as one of the messages in ``table``; raise ``ContractError`` with the path of the first mistake.

    ``cuts``: cut off values nested too deeply instead of refusing the frame: an alert must not be lost because of the
    data attached to it. ``note_fn``: as for ``parse``. ``UnknownTypeError``: the message has another type.
    """
    document = decode_json(frame, cuts=cuts)
    if not isinstance(document, dict):
        raise ContractError("$", "must be an object")
    tag = document.get("type")
    if not isinstance(tag, str):
        raise ContractError("$.type", "must be a string")
    if tag not in table:
        raise UnknownTypeError(tag)
    return parse(table[tag], document, tag, note_fn=note_fn)


def decode_json(frame: bytes | str, *, cuts: bool = False) -> Json:
    """Parse JSON of at most ``MAX_FRAME`` bytes and ``MAX_DEPTH`` levels; raise ``ContractError``.

    ``cuts``: cut off values nested too deeply instead of refusing the frame. NaN, numbers beyond a double, unpaired
    surrogates and invalid UTF-8 are refused (RFC 8259).
    """
    if len(frame) > MAX_FRAME:
        raise ContractError("$", f"must not be longer than {MAX_FRAME} bytes")
    try:
        document: Json = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise ContractError("$", "must be JSON") from error
    try:
        check_depth(frame, document)
    except TooDeepError:
        if not cuts:
            raise
        document = bounded(document, MAX_DEPTH)
    return document


def members(frame: bytes | str) -> Mapping[str, Json]:
    """Return the members of a frame that need no check, such as the id of one that ``decode`` refused.

    Empty if it is not a JSON object.
    """
    if len(frame) > MAX_FRAME:
        return {}
    try:
        document = orjson.loads(frame)
    except orjson.JSONDecodeError:
        return {}
    return document if isinstance(document, dict) else {}


def parse[T](shape: type[T], document: object, path: str = "$", *, note_fn: NoteFn | None = None) -> T:
    """Read ``document`` as the dataclass ``shape``; ``path``: what the paths of mistakes begin with.

    ``note_fn``: gets path and reason of each member and enum value that is unknown here. Such a member is passed over;
    such a value is read as its enum's ``UNKNOWN``, and left out of a list. Without ``note_fn`` the value is refused.
    """
    expression: Any = shape
    result: T = _parser(expression)(document, path, note_fn)
    return result


@cache
def _parser(shape: Any) -> Parser:  # noqa: ANN401 - a type expression
    if scalar := _SCALARS.get(shape):
        return scalar
    if isinstance(shape, TypeAliasType):
        return _parser(shape.__value__)
    if generic := _GENERICS.get(get_origin(shape)):
        return generic(get_args(shape))
    if isinstance(shape, type) and issubclass(shape, StrEnum):
        return _choice(shape)
    if is_dataclass(shape):
        return _record(shape)
    raise TypeError(f"the codec does not know {shape!r}")


def _scalar(kinds: tuple[type, ...], name: str) -> Parser:
    def read(document: Any, path: str, _: NoteFn | None) -> Any:  # noqa: ANN401 - JSON
        # Not isinstance, for which true and false are whole numbers.
        if type(document) not in kinds:
            raise ContractError(path, f"must be {name}")
        return document

    return read


def _whole(document: Any, path: str, _: NoteFn | None, name: str = "a whole number") -> int:  # noqa: ANN401 - JSON
    if type(document) is not int:
        raise ContractError(path, f"must be {name}")
    if abs(document) > MOST_SIGNED:
        raise ContractError(path, "must fit into 64 bits with a sign")
    return document


def _real(document: Any, path: str, _: NoteFn | None) -> float:  # noqa: ANN401 - JSON
    return document if type(document) is float else _whole(document, path, None, "a number")


def _text(document: Any, path: str, _: NoteFn | None = None) -> str:  # noqa: ANN401 - JSON
    if type(document) is not str:
        raise ContractError(path, "must be a string")
    if len(document) > MAX_TEXT:
        raise ContractError(path, f"must not be longer than {MAX_TEXT} characters")
    return document


def _anything(document: Any, _path: str, _: NoteFn | None) -> Json:  # noqa: ANN401 - JSON
    value: Json = document
    return value


def _ulid(document: Any, path: str, _: NoteFn | None) -> Ulid:  # noqa: ANN401 - JSON
    if type(document) is not str or not is_ulid(document):
        raise ContractError(path, "must be a ULID")
    return Ulid(document)


def _time(document: Any, path: str, _: NoteFn | None) -> datetime:  # noqa: ANN401 - JSON
    try:
        moment = datetime.fromisoformat(_text(document, path))
    except ValueError as error:
        raise ContractError(path, "must be a time (RFC 3339)") from error
    if moment.tzinfo is None:
        raise ContractError(path, "must have a UTC offset")
    if not _FIRST_YEAR <= moment.year <= _LAST_YEAR:
        raise ContractError(path, f"must be in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return moment


_SCALARS: Mapping[Any, Parser] = {
    bool: _scalar((bool,), "true or false"),
    int: _whole,
    float: _real,
    str: _text,
    NoneType: _scalar((NoneType,), "null"),
    Ulid: _ulid,
    datetime: _time,
    Json: _anything,
}


def _union(choices: tuple[Any, ...]) -> Parser:
    parsers = [_parser(choice) for choice in choices]

    def read(document: Any, path: str, note_fn: NoteFn | None) -> Any:  # noqa: ANN401 - JSON
        deepest: ContractError | None = None
        for parser in parsers:
            try:
                return parser(document, path, note_fn)
            except ContractError as error:
                # The alternative that was parsed farthest is most likely the one that was meant.
                if deepest is None or len(error.path) > len(deepest.path):
                    deepest = error
        raise deepest or ContractError(path, "matches no allowed type")

    return read


def _sequence(arguments: tuple[Any, ...]) -> Parser:
    is_choice = isinstance(arguments[0], type) and issubclass(arguments[0], StrEnum)
    item = _choice(arguments[0], unknown=_LEFT_OUT) if is_choice else _parser(arguments[0])

    def read(document: Any, path: str, note_fn: NoteFn | None) -> tuple[Any, ...]:  # noqa: ANN401 - JSON
        if not isinstance(document, list):
            raise ContractError(path, "must be an array")
        items = (item(entry, f"{path}[{index}]", note_fn) for index, entry in enumerate(document))
        return tuple(entry for entry in items if entry is not _LEFT_OUT)

    return read


def _mapping(arguments: tuple[Any, ...]) -> Parser:
    item = _parser(arguments[1])

    def read(document: Any, path: str, note_fn: NoteFn | None) -> dict[str, Any]:  # noqa: ANN401 - JSON
        if not isinstance(document, dict):
            raise ContractError(path, "must be an object")
        return {_text(key, path): item(entry, f"{path}.{key[:64]}", note_fn) for key, entry in document.items()}

    return read


_GENERICS: Mapping[Any, Callable[[tuple[Any, ...]], Parser]] = {
    Union: _union,
    UnionType: _union,
    tuple: _sequence,
    Mapping: _mapping,
}


def _choice(shape: type[StrEnum], *, unknown: object = None) -> Parser:
    values = {member.value: member for member in shape}
    neutral = unknown or getattr(shape, "UNKNOWN", None)

    def read(document: Any, path: str, note_fn: NoteFn | None) -> Any:  # noqa: ANN401 - a member, or left out
        if isinstance(document, str):
            if document in values:
                return values[document]
            if note_fn is not None and neutral is not None:
                note_fn(path, f"has the unknown value {document[:64]!r}")
                return neutral
        raise ContractError(path, f"must be one of {', '.join(values)}")

    return read


def request_id() -> Any:  # noqa: ANN401 - a field
    """Return the field of a request's id, which the client sets as it sends the request."""
    return field(default="", metadata={"required": True})


def is_required(member: Field[Any]) -> bool:
    """Return whether a message without this member is refused."""
    return "required" in member.metadata or (member.default is MISSING and member.default_factory is MISSING)


def _record(shape: Any) -> Parser:  # noqa: ANN401 - JSON
    hints = get_type_hints(shape)
    members: list[tuple[Field[Any], Parser]] = [(each, _parser(hints[each.name])) for each in fields(shape)]

    def read(document: Any, path: str, note_fn: NoteFn | None) -> Any:  # noqa: ANN401 - JSON
        if not isinstance(document, dict):
            raise ContractError(path, "must be an object")
        values = {}
        for member, parser in members:
            if member.name in document:
                values[member.name] = parser(document[member.name], f"{path}.{member.name}", note_fn)
            # A new member needs a default, so that messages of an older peer stay valid.
            elif is_required(member):
                raise ContractError(f"{path}.{member.name}", "is missing")
        if note_fn is not None and not document.keys() <= hints.keys():
            for name in document.keys() - hints.keys():
                note_fn(f"{path}.{name[:64]}", "is unknown")
        return shape(**values)

    return read
