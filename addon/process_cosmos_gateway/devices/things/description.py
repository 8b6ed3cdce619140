"""Parser for W3C WoT Thing Descriptions 1.1, as specified in ``wire/devices.md``."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from process_cosmos_gateway.contract.bounds import MAX_DEPTH, is_deeper
from process_cosmos_gateway.contract.devices import Device, DeviceEventDescription, Property, PropertyKind
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import CodedError

from .meaning import Meaning, PropertyDescription, TrueMeaning, meaning_of, unit_of

MAX_BYTES = 256 * 1024
"""Bytes of the longest description accepted."""

AVAILABILITY = "cosmos:availability"
"""The member that names the topic of the last will: this project's extension of the Thing Description."""

TRUE_MEANS = "cosmos:trueMeans"
"""The member of a boolean property that defines the meaning of true: this project's extension too."""

_FILTER, _TOPIC = "mqv:filter", "mqv:topic"
"""Members of a form by which the W3C's MQTT binding names the topics to subscribe and to publish to."""

_MAX_AFFORDANCES = 256
_MAX_TEXT = 255
_MAX_TOPIC_BYTES = 1024
_KINDS: Mapping[object, PropertyKind] = {
    "boolean": PropertyKind.BOOLEAN,
    "number": PropertyKind.NUMBER,
    "integer": PropertyKind.NUMBER,
    "string": PropertyKind.TEXT,
}
_READ = frozenset({"readproperty", "observeproperty"})
_WRITE = frozenset({"writeproperty"})
_SUBSCRIBE = frozenset({"subscribeevent"})


class DescriptionError(CodedError):
    """A description is refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A parsed description; its ``device`` has neither values nor availability yet.

    ``reads`` and ``events``: name by topic; ``writes``: topic by property; ``availability``: the last will's topic.
    ``inverted``: properties whose true means closed or dry; the gateway inverts their values in both directions.
    ``unusable``: by name, why a property, an event or the availability cannot be used.
    """

    topic: str
    device: Device
    reads: Mapping[str, str]
    writes: Mapping[str, str]
    events: Mapping[str, str]
    availability: str | None
    inverted: frozenset[str] = frozenset()
    unusable: Mapping[str, str] = field(default_factory=dict)

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that the Thing claims."""
        will = () if self.availability is None else (self.availability,)
        return (*self.reads, *self.writes.values(), *self.events, *will)


def prefix_of(topic: str) -> str:
    """Return the prefix of a Thing's topics, derived from its description's topic: ``td`` removed, or a slash added."""
    return topic.removesuffix("td") if topic.endswith("/td") else f"{topic}/"


def is_meant_as_description(topic: str, payload: bytes) -> bool:
    """Return whether to log a mistake in ``payload``: topics of one level may have other uses."""
    return topic.endswith("/td") or b"/wot/td" in payload


def check_plausible(payload: bytes) -> None:
    """Raise ``DescriptionError`` if ``payload`` cannot be a description; cheaper than parsing it."""
    if len(payload) > MAX_BYTES:
        raise _invalid(f"The description is longer than {MAX_BYTES} bytes")
    if b'"title"' not in payload or b'"forms"' not in payload:
        raise _invalid("The description has no title or no form")


def parse_description(topic: str, payload: bytes, filters: Sequence[str]) -> Thing:
    """Parse the description retained at ``topic``; ``filters``: the topics subscribed for descriptions.

    Raises ``DescriptionError``: ``description_invalid``, or ``topic_taken`` if it claims a topic outside its prefix.
    """
    return _Parser(topic, _parse_document(payload), filters).parse()


def _invalid(message: str) -> DescriptionError:
    return DescriptionError(Code.DESCRIPTION_INVALID, message)


def _duplicate_topic() -> DescriptionError:
    return _invalid("The description uses one topic for two purposes")


def _parse_document(payload: bytes) -> Mapping[str, Any]:
    if len(payload) > MAX_BYTES:
        raise _invalid(f"The description is longer than {MAX_BYTES} bytes")
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise _invalid("The description is not valid JSON") from error
    if not isinstance(document, dict):
        raise _invalid("The description is not a JSON object")
    if is_deeper(document):
        raise _invalid(f"The description is nested deeper than {MAX_DEPTH}")
    return document


class _Parser:
    """The parser of one description, with the state shared by its parts."""

    def __init__(self, topic: str, document: Mapping[str, Any], filters: Sequence[str]) -> None:
        self._topic = topic
        self._document = document
        self._claims = TopicClaims(topic, filters)
        base = document.get("base", "")
        self._base = base if isinstance(base, str) else ""
        self._reads: dict[str, str] = {}
        self._writes: dict[str, str] = {}
        self._events: dict[str, str] = {}
        self._inverted: set[str] = set()
        self._unusable: dict[str, DescriptionError] = {}
        self._used: set[str] = set()

    def parse(self) -> Thing:
        properties = self._parse_each("properties", self._property)
        events = self._parse_each("events", self._event)
        if not self._reads and not self._events:
            raise next(iter(self._unusable.values()), None) or _invalid(
                "The description has no form that this gateway can use (MQTT, with a value)"
            )
        used = (*self._reads.values(), *self._events.values())
        availability = self._availability()
        return Thing(
            topic=self._topic,
            device=self._device(tuple(properties), tuple(events)),
            reads=self._reads,
            writes=self._writes,
            events=self._events,
            availability=availability,
            inverted=frozenset(self._inverted),
            unusable={name: str(error) for name, error in self._unusable.items() if name not in used},
        )

    def _parse_each[T](self, kind: str, read: Callable[[str, Mapping[str, Any]], T | None]) -> list[T]:
        """Parse the ``properties`` or ``events``; one with a mistake is left out, the others stay."""
        affordances = self._document.get(kind, {})
        if not isinstance(affordances, dict):
            raise _invalid(f"{kind} is not an object")
        if len(affordances) > _MAX_AFFORDANCES:
            raise _invalid(f"The description has more than {_MAX_AFFORDANCES} {kind}")
        found = []
        for name, described in affordances.items():
            try:
                if not isinstance(described, dict) or not name or len(name) > _MAX_TEXT:
                    raise _invalid(f"One of the {kind} is not an object or has no valid name")
                one = read(name, described)
            except DescriptionError as error:
                self._unusable.setdefault(name[:_MAX_TEXT], error)
            else:
                found += [] if one is None else [one]
        return found

    def _property(self, name: str, described: Mapping[str, Any]) -> Property | None:
        """Return a property with a topic to read from; None: without one, or with an unsupported type."""
        kind = _KINDS.get(described.get("type")) if isinstance(described.get("type"), str) else None
        read = self._form_topic(described, name, _READ, _READ | _WRITE)
        if kind is None or read is None or described.get("writeOnly") is True:
            return None
        write = self._form_topic(described, name, _WRITE, _READ | _WRITE, other_than=read)
        if write in self._used:
            self._unusable.setdefault(name, _duplicate_topic())
            write = None
        writable = write is not None and described.get("readOnly") is not True
        meaning = self._meaning(name, described, kind, writable=writable)
        parsed = _property(name, described, kind, meaning)
        self._claim(read, name, self._reads)
        if write is not None:
            self._used.add(write)
            if meaning.writable:
                self._writes[name] = write
        if meaning.inverted:
            self._inverted.add(name)
        return parsed

    def _event(self, name: str, described: Mapping[str, Any]) -> DeviceEventDescription | None:
        """Return the description of an event; None: it has no MQTT form."""
        topic = self._form_topic(described, name, _SUBSCRIBE, _SUBSCRIBE)
        if topic is None:
            return None
        parsed = DeviceEventDescription(name=name, title=_text(described, "title", name))
        self._claim(topic, name, self._events)
        return parsed

    def _claim(self, topic: str, name: str, names: dict[str, str]) -> None:
        """Assign ``topic`` to ``name``; raise ``DescriptionError`` if the description already uses the topic."""
        if topic in self._used:
            raise _duplicate_topic()
        self._used.add(topic)
        names[topic] = name

    def _device(self, properties: tuple[Property, ...], events: tuple[DeviceEventDescription, ...]) -> Device:
        title = _text(self._document, "title")
        if not title:
            raise _invalid("The description has no title")
        maker = self._document.get("schema:manufacturer")
        return Device(
            id=prefix_of(self._topic).removesuffix("/"),
            title=title,
            properties=properties,
            events=events,
            manufacturer=_text_or_none(maker.get("schema:name") if isinstance(maker, dict) else maker),
            model=_text_or_none(self._document.get("schema:model")),
            firmware=_text_or_none(self._document.get("schema:softwareVersion")),
        )

    def _form_topic(
        self,
        described: Mapping[str, Any],
        name: str,
        wanted: frozenset[str],
        default: frozenset[str],
        *,
        other_than: str | None = None,
    ) -> str | None:
        """Return the topic of the first usable form for one of the ``wanted`` operations."""
        forms = described.get("forms")
        for form in forms if isinstance(forms, list) else ():
            try:
                topic = self._topic_of(form, wanted, default)
                if topic is not None and topic != other_than:
                    return self._claims.check(topic)
            except DescriptionError as error:
                self._unusable.setdefault(name, error)
        return None

    def _topic_of(self, form: object, wanted: frozenset[str], default: frozenset[str]) -> str | None:
        """Return the topic of a form; None: the form is for other operations or another protocol."""
        if not isinstance(form, dict) or not isinstance(form.get("href"), str):
            raise _invalid("A form has no href")
        if not wanted & _operations(form, default):
            return None
        path = self._path(form["href"])
        named = [_TOPIC, _FILTER] if wanted == _WRITE else [_FILTER, _TOPIC]
        described = next((form[member] for member in named if member in form), None)
        if path is None or described is None:
            return path
        listed = described if isinstance(described, list) else [described]
        if len(listed) != 1 or not isinstance(listed[0], str):
            raise _invalid("A form names no topic or several topics")
        return listed[0]

    def _availability(self) -> str | None:
        """Return the topic of the last will, if a valid one is named."""
        described = self._document.get(AVAILABILITY)
        if described is None:
            return None
        try:
            if not isinstance(described, dict) or not isinstance(described.get("href"), str):
                raise _invalid(f"{AVAILABILITY} has no href")
            path = self._path(described["href"])
            if path in self._used:
                raise _duplicate_topic()
            return None if path is None else self._claims.check(path)
        except DescriptionError as error:
            self._unusable[AVAILABILITY] = error
            return None

    def _path(self, href: str) -> str | None:
        """Return the topic of an ``href``: its path, unchanged; None for another protocol than MQTT."""
        if "://" not in href and not href.startswith("/"):
            href = self._base.rpartition("/")[0] + "/" + href
        elif href.startswith("/"):
            href = "/".join(self._base.split("/")[:3]) + href
        scheme, _, rest = href.partition("://")
        return rest.partition("/")[2] if scheme.lower() in ("mqtt", "mqtts") else None

    def _meaning(self, name: str, described: Mapping[str, Any], kind: PropertyKind, *, writable: bool) -> Meaning:
        return meaning_of(
            PropertyDescription(
                types=_types(described),
                name=name,
                title=_text(described, "title", name),
                description=_text_or_none(described.get("description")) or "",
                thing=_text(self._document, "title"),
                unit=unit_of(_text_or_none(described.get("unit"))),
                kind=kind,
                writable=writable,
                true_means=_true_means(described, name, kind),
            )
        )


class TopicClaims:
    """Check of the topics a Thing may claim: those below its prefix, except those below another Thing's."""

    def __init__(self, topic: str, filters: Sequence[str]) -> None:
        """Use the description's topic, and the filters subscribed for descriptions."""
        self._topic = topic
        # node-wot uses the title unchanged in the description's topic, and percent-encoded in the others.
        self._prefixes = (prefix_of(topic), prefix_of(_encoded(topic)))
        self._others = [prefix_of(each).split("/")[:-1] for each in filters if "#" not in each]

    def check(self, topic: str) -> str:
        """Return ``topic`` if the Thing may claim it; raise ``DescriptionError``."""
        if not topic or len(topic.encode()) > _MAX_TOPIC_BYTES or not topic.isprintable():
            raise _invalid("A form names an invalid topic")
        if set("+#") & set(topic) or topic.startswith("$"):
            raise DescriptionError(Code.TOPIC_TAKEN, "The description claims a wildcard or a topic that starts with $")
        if topic == self._topic or not topic.startswith(self._prefixes) or self._belongs_to_other_thing(topic):
            raise DescriptionError(Code.TOPIC_TAKEN, "The description claims a topic that is not below its own")
        return topic

    def _belongs_to_other_thing(self, topic: str) -> bool:
        """Return whether ``topic`` belongs to a Thing at a lower level, described or not yet."""
        own = len(self._prefixes[0].split("/")) - 1
        levels = topic.split("/")[:-1]
        return any(
            own < len(other) <= len(levels)
            and all(pattern in ("+", level) for pattern, level in zip(other, levels, strict=False))
            for other in self._others
        )


def _encoded(topic: str) -> str:
    kept = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()/"
    return "".join(c if c in kept else "".join(f"%{byte:02X}" for byte in c.encode()) for c in topic)


def _operations(form: Mapping[str, Any], default: frozenset[str]) -> frozenset[str]:
    operations = form.get("op")
    if operations is None:
        return default
    listed = operations if isinstance(operations, list) else [operations]
    return frozenset(operation for operation in listed if isinstance(operation, str))


def _property(name: str, described: Mapping[str, Any], kind: PropertyKind, meaning: Meaning) -> Property:
    return Property(
        name=name,
        title=_text(described, "title", name),
        kind=kind,
        integer=described.get("type") == "integer",
        hint=meaning.hint,
        suggested_hint=meaning.suggested,
        writable=meaning.writable,
        unit=unit_of(_text_or_none(described.get("unit"))),
        minimum=_number(described, "minimum"),
        maximum=_number(described, "maximum"),
    )


def _true_means(described: Mapping[str, Any], name: str, kind: PropertyKind) -> TrueMeaning | None:
    if (meant := described.get(TRUE_MEANS)) is None:
        return None
    if kind is not PropertyKind.BOOLEAN or meant not in list(TrueMeaning):
        raise _invalid(f"{TRUE_MEANS} of {name[:64]!r} must be open, closed, wet or dry, and of a boolean")
    return TrueMeaning(meant)


def _types(described: Mapping[str, Any]) -> list[str]:
    """Return the local names of ``@type``: the part after the last of ``:``, ``/``, ``#``."""
    types = described.get("@type", [])
    listed = types if isinstance(types, list) else [types]
    return [re.split(r"[:/#]", each)[-1] for each in listed if isinstance(each, str)]


def _text(described: Mapping[str, Any], key: str, default: str = "") -> str:
    text = described.get(key, default)
    if not isinstance(text, str) or len(text) > _MAX_TEXT:
        raise _invalid(f"{key} is not a text of at most {_MAX_TEXT} characters")
    return text or default


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_TEXT else None


def _number(described: Mapping[str, Any], key: str) -> float | None:
    number = described.get(key)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _invalid(f"{key} is not a number")
    return float(number)
