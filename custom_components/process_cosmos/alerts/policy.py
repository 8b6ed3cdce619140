"""Escalation policy: which recipients are notified after which delay."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from custom_components.process_cosmos.const import CONF_DESTINATIONS, CONF_NOTIFY_ENTITIES, CONF_PERSISTENT, CONF_PHONES
from custom_components.process_cosmos.contract.identifiers import DESTINATION, NOTIFY, PHONE

DEFAULT_POLICY = "default"
PERSISTENT = "persistent:home_assistant"
"""Recipient id of Home Assistant's own persistent notifications."""
GIVE_UP_AFTER = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Recipients of one level, notified ``rounds`` times, every ``every``.

    The level starts ``after`` the start of the previous level; the first level, after the start of the cycle.
    """

    after: timedelta
    people: tuple[str, ...] = ()
    destinations: tuple[str, ...] = ()
    every: timedelta = timedelta(minutes=5)
    rounds: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Escalation policy with its levels, lowest first."""

    levels: tuple[Level, ...]

    @property
    def people(self) -> tuple[str, ...]:
        """The people of all levels, each once."""
        return tuple(dict.fromkeys(person for level in self.levels for person in level.people))


def default_policy(options: Mapping[str, Any]) -> Policy:
    """Return the only policy so far: people at once and every 5 minutes; after 10 minutes also the destinations."""
    people = (
        *_prefixed(PHONE, options.get(CONF_PHONES, ())),
        *_prefixed(NOTIFY, options.get(CONF_NOTIFY_ENTITIES, ())),
        *([PERSISTENT] if options.get(CONF_PERSISTENT) else []),
    )
    destinations = _prefixed(DESTINATION, options.get(CONF_DESTINATIONS, ()))
    return Policy(
        levels=(
            Level(after=timedelta(), people=people),
            Level(after=timedelta(minutes=10), destinations=destinations),
        )
    )


def _prefixed(prefix: str, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{prefix}{name}" for name in names)
