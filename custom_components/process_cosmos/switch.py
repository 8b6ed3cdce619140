"""Booleans of a Thing that can be written, other than valves."""

from dataclasses import dataclass
from typing import Any, override

from homeassistant.components.switch import SwitchEntity, SwitchEntityDescription
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .contract.devices import Hint, PropertyKind
from .data import CosmosConfigEntry
from .entity import PropertyDescription, PropertyEntity, add_properties

PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class ThingSwitchDescription(PropertyDescription, SwitchEntityDescription):
    """A row of switches."""


SWITCHES = (
    ThingSwitchDescription(
        key="switch",
        fits_fn=lambda item: item.kind is PropertyKind.BOOLEAN and item.writable and item.hint is not Hint.VALVE,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,  # noqa: ARG001 - Home Assistant's signature
    entry: CosmosConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add those of all Things."""
    add_properties(entry, async_add_entities, ThingSwitch)


class ThingSwitch(PropertyEntity, SwitchEntity):
    """A writable boolean of a Thing."""

    entity_description: ThingSwitchDescription
    rows = SWITCHES

    @property
    @override
    def is_on(self) -> bool | None:
        """The newest reported value."""
        return None if self.reported is None else self.reported is True

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        """Write true."""
        await self.async_write(value=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        """Write false."""
        await self.async_write(value=False)
