"""Reads Thing Descriptions just far enough to know what a topic says; owes nothing to the gateway's own reader."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import unquote, urlsplit

import orjson

from .evidence import Scalar


class Saying(StrEnum):
    """What a message on a topic is."""

    VALUE = "value"
    EVENT = "event"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic of a Thing: whose affordance it is about, and what its messages say."""

    device: str
    affordance: str
    saying: Saying
    boolean: bool
    moisture: bool = False


def topics_of(name: str, payload: bytes) -> Mapping[str, Topic]:
    """Return the topics that a Thing Description published at ``name`` claims; none if ``payload`` is none.

    A Thing is known by where its description is: `wot/valve/td` describes `wot/valve`.
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
                    saying=Saying.EVENT if group == "events" else _saying(form),
                    boolean=affordance.get("type", affordance.get("data", {}).get("type")) == "boolean",
                    moisture=affordance.get("@type") == "Moisture",
                )
    return topics


def scalar(payload: bytes) -> Scalar:
    """Return a JSON value as far as it is no object or list, else its text."""
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError:
        return payload.decode(errors="replace")
    return value if isinstance(value, (bool, int, float, str)) or value is None else payload.decode()


def _saying(form: Mapping[str, Any]) -> Saying:
    operations = form.get("op", [])
    operations = [operations] if isinstance(operations, str) else operations
    return Saying.COMMAND if operations == ["writeproperty"] else Saying.VALUE


def _path(href: str) -> str:
    return unquote(urlsplit(href).path.lstrip("/"))
