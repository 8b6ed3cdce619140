"""A fabricated schema 2: it adds an enum value, members and messages to schema 1."""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from process_cosmos_gateway.contract.codec import request_id
from process_cosmos_gateway.contract.versions import added_in


class Loudness(StrEnum):
    """An enum of schema 1, with the value ``deafening`` of schema 2."""

    SOFT = "soft"
    DEAFENING = "deafening"
    UNKNOWN = SOFT


class OldLoudness(StrEnum):
    """The enum in schema 1."""

    SOFT = "soft"
    UNKNOWN = SOFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Tone:
    """An object within messages. ``color``: a member of schema 2."""

    loudness: Loudness = Loudness.SOFT
    color: str = added_in(2, "white")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldTone:
    """The object in schema 1."""

    loudness: OldLoudness = OldLoudness.SOFT


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A message of schema 1. ``urgent``: a member of schema 2."""

    type: ClassVar[str] = "ring"
    tones: tuple[Tone, ...]
    urgent: bool = added_in(2, default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OldRing:
    """The message in schema 1."""

    type: ClassVar[str] = "ring"
    tones: tuple[OldTone, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sing:
    """A message of schema 2."""

    type: ClassVar[str] = "sing"
    added_in: ClassVar[int] = 2
    song: str = "Happy Birthday"


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A request of schema 1. ``repeat``: a member of schema 2."""

    type: ClassVar[str] = "play"
    id: str = request_id()
    name: str
    repeat: bool = added_in(2, default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conduct:
    """A request of schema 2."""

    type: ClassVar[str] = "conduct"
    added_in: ClassVar[int] = 2
    id: str = request_id()
