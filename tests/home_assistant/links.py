"""Destinations in a gateway's status, and helpers that send them."""

from dataclasses import replace

from homeassistant.components import persistent_notification
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from homeassistant.helpers import translation
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import (
    DestinationKind,
    EventKind,
    Link,
    LinkState,
    Status,
)
from tests.support.waiting import until

from .contract_gateway import IDLE, ContractGateway

HOOK = Link(
    name="webhook",
    kind=DestinationKind.WEBHOOK,
    address="https://hooks.example",
    kinds=(EventKind.ALERT,),
    state=LinkState.CONNECTED,
    label="Node-RED",
    state_age=5.0,
)
CLOUD = replace(
    HOOK, name="cloud", kind=DestinationKind.CLOUD, address="https://cloud.example:8443", label="Head office"
)


async def load_texts(hass: HomeAssistant) -> None:
    """Load the translations, as Home Assistant does before it sets up an integration."""
    await translation.async_load_integrations(hass, {DOMAIN})


async def send_status(gateway: ContractGateway, entry: MockConfigEntry, status: Status) -> None:
    """Send ``status`` now and in later sessions; wait until it was received."""
    gateway.status = status
    await gateway.send(status)
    link = entry.runtime_data.coordinator
    await until(lambda: link.status and link.status.status == status)


async def send_links(gateway: ContractGateway, entry: MockConfigEntry, *links: Link) -> None:
    """Send a status with these destinations."""
    await send_status(gateway, entry, replace(IDLE, links=links))


def shown(hass: HomeAssistant) -> list[ir.IssueEntry]:
    """Return the active issues."""
    return [issue for issue in ir.async_get(hass).issues.values() if issue.domain == DOMAIN and issue.active]


def notices(hass: HomeAssistant) -> list[str]:
    """Return the texts of Home Assistant's own notifications."""
    shown = persistent_notification._async_get_or_create_notifications(hass)  # type: ignore[attr-defined]  # the only list
    return [notice["message"] for notice in shown.values()]
