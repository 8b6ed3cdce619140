"""Who is told after how long: the levels of an escalation policy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from custom_components.process_cosmos.const import (
    CONF_DESTINATIONS,
    CONF_NOTIFY_ENTITIES,
    CONF_PERSISTENT,
    CONF_PHONES,
)
from custom_components.process_cosmos.contract.identifiers import DESTINATION, NOTIFY, PHONE

DEFAULT_POLICY = "default"
PERSISTENT = "persistent:home_assistant"
"""The recipient that is a persistent notification in Home Assistant."""
GIVE_UP_AFTER = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Who is told ``after`` the level before it started (the first: the walk), every ``every``, ``rounds`` times."""

    after: timedelta
    people: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    every: timedelta = timedelta(minutes=5)
    rounds: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Levels, lowest first."""

    levels: tuple[Level, ...]

    @property
    def people(self) -> tuple[str, ...]:
        """Everybody at the site, each once."""
        return tuple(dict.fromkeys(person for level in self.levels for person in level.people))


def default_policy(options: Mapping[str, Any]) -> Policy:
    """Return the one policy: people at once, and every 5 minutes; after 10 minutes the destinations too."""
    people = (
        *_words(PHONE, options.get(CONF_PHONES, ())),
        *_words(NOTIFY, options.get(CONF_NOTIFY_ENTITIES, ())),
        *([PERSISTENT] if options.get(CONF_PERSISTENT) else []),
    )
    destinations = _words(DESTINATION, options.get(CONF_DESTINATIONS, ()))
    return Policy(
        levels=(
            Level(after=timedelta(), people=people),
            Level(after=timedelta(minutes=10), destinations=destinations),
        )
    )


def _words(prefix: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in names)
