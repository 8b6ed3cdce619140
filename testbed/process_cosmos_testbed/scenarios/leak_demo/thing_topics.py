"""Reads from Thing Descriptions what the messages of each topic are, independently of the gateway's own reader."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from .evidence import Scalar


class MessageKind(StrEnum):
    """What a message on a topic is."""

    VALUE = "value"
    EVENT = "event"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic of a Thing: its device, its affordance, and the kind of its messages."""

    device: str
    affordance: str
    kind: MessageKind
    boolean: bool
    moisture: bool = False


def topics_of(name: str, payload: bytes) -> Mapping[str, Topic]:
    """Return the topics of a Thing Description published at ``name``; none if ``payload`` is no description.

    The topic of the description identifies the Thing: `wot/valve/td` describes `wot/valve`.
    """
    try:
        document = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return {}
    if not isinstance(document, dict) or "title" not in document:
        return {}
    device = name.removesuffix("/td")
    topics = {}
    for group in ("properties", "events"):
        for affordance_name, affordance in document.get(group, {}).items():
            for form in affordance.get("forms", ()):
                topics[_path(form["href"])] = Topic(
                    device=device,
                    affordance=affordance_name,
                    kind=MessageKind.EVENT if group == "events" else _kind(form),
                    boolean=affordance.get("type", affordance.get("data", {}).get("type")) == "boolean",
                    moisture=affordance.get("@type") == "Moisture",
                )
    return topics


def scalar(payload: bytes) -> Scalar:
    """Return a JSON value that is no object or list, else the text."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload.decode(errors="replace")
    return value if isinstance(value, (bool, int, float, str)) or value is None else payload.decode()


def _kind(form: Mapping[str, Any]) -> MessageKind:
    operations = form.get("op", [])
    operations = [operations] if isinstance(operations, str) else operations
    return MessageKind.COMMAND if operations == ["writeproperty"] else MessageKind.VALUE


def _path(href: str) -> str:
    return unquote(urlsplit(href).path.lstrip("/"))
