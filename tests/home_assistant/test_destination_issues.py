"""Repair issues of destinations: which one, the reason and the remedy."""

from dataclasses import replace
from datetime import timedelta

import pytest
from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.process_cosmos.contract.destinations import LinkState, Waiting
from custom_components.process_cosmos.issues.destination_issues import DestinationIssues

from .contract_gateway import IDLE, ContractGateway
from .links import CLOUD, HOOK, load_texts, send_links, send_status, shown

REFUSED = replace(HOOK, state=LinkState.REFUSED, reason="http_401")
OFFLINE = replace(CLOUD, state=LinkState.OFFLINE, reason="timeout", state_age=30.0)


@pytest.fixture(autouse=True)
async def _texts(hass: HomeAssistant) -> None:
    await load_texts(hass)


def keys(hass: HomeAssistant) -> dict[str, str | None]:
    """Return the translation keys of the active issues, by destination."""
    return {issue.issue_id.rpartition("/")[2]: issue.translation_key for issue in shown(hass)}


def placeholders_of(hass: HomeAssistant) -> dict[str, str]:
    """Return the placeholders of the only issue."""
    (issue,) = shown(hass)
    assert issue.translation_placeholders
    return dict(issue.translation_placeholders)


async def test_a_refused_destination_is_an_issue_at_once_with_reason_and_remedy(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    detail = "wrong `token`\nsorry"
    status = replace(IDLE, links=(replace(REFUSED, detail=detail),), waiting=Waiting(urgent=2, change=40))
    await send_status(gateway, linked, status)
    assert keys(hass) == {"webhook": "destination_refused"}
    assert placeholders_of(hass) == {
        "site": "Process Cosmos",
        "destination": "Node-RED",
        "address": "https://hooks.example",
        "reason": "It does not accept the credentials. Correct the header; at a cloud endpoint, enrol again with a new "
        "code. (http_401) `wrong 'token' sorry`",
        "waiting": "10+",
    }
    (issue,) = shown(hass)
    assert issue.learn_more_url
    assert issue.learn_more_url.endswith("docs/errors.md#why-a-link-is-offline-or-refused")
    assert issue.severity is ir.IssueSeverity.ERROR


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("http_418", "It does not accept the request. Check the address, the header and the log of the receiver."),
        ("a_reason_of_tomorrow", "a_reason_of_tomorrow"),
    ],
)
async def test_a_reason_without_a_translation_shows_its_code(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, reason: str, words: str
) -> None:
    await send_links(gateway, linked, replace(REFUSED, reason=reason))
    assert placeholders_of(hass)["reason"].startswith(words)
    assert reason in placeholders_of(hass)["reason"]


async def test_each_refused_destination_has_an_issue_until_it_recovers_or_is_removed(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    other = replace(REFUSED, name="webhook-2", label="Logs")
    await send_links(gateway, linked, REFUSED, other)
    assert keys(hass) == {"webhook": "destination_refused", "webhook-2": "destination_refused"}
    await send_links(gateway, linked, replace(HOOK), other)
    assert keys(hass) == {"webhook-2": "destination_refused"}
    await send_links(gateway, linked)
    assert not keys(hass)


async def test_a_destination_is_an_issue_after_an_hour_offline(
    hass: HomeAssistant, people_only: MockConfigEntry, freezer: FrozenDateTimeFactory
) -> None:
    issues = DestinationIssues(hass, people_only)
    issues.show(replace(IDLE, links=(OFFLINE,)))
    await pass_time(hass, freezer, timedelta(minutes=59))
    assert not keys(hass)
    await pass_time(hass, freezer, timedelta(minutes=1))
    assert keys(hass) == {"cloud": "destination_offline"}
    assert placeholders_of(hass)["destination"] == "Head office"
    refused = replace(OFFLINE, state=LinkState.REFUSED, reason="http_410", state_age=0.0)
    issues.show(replace(IDLE, links=(refused,)))
    assert keys(hass) == {"cloud": "destination_refused"}


async def test_no_issue_is_created_without_a_connection_to_the_app(
    hass: HomeAssistant, people_only: MockConfigEntry, freezer: FrozenDateTimeFactory
) -> None:
    issues = DestinationIssues(hass, people_only)
    issues.show(replace(IDLE, links=(OFFLINE,)))
    issues.stop()
    await pass_time(hass, freezer, timedelta(hours=2))
    assert not keys(hass)


async def test_a_destination_offline_for_longer_is_an_issue_at_once(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, replace(OFFLINE, state_age=3601.0))
    assert keys(hass) == {"cloud": "destination_offline"}


async def test_an_untried_destination_is_not_an_issue(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, replace(OFFLINE, reason="untried", state_age=99_999.0))
    assert not keys(hass)


async def test_removing_the_site_deletes_the_issues_of_its_destinations(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, REFUSED)
    assert await hass.config_entries.async_unload(linked.entry_id)
    assert not keys(hass)


async def test_the_sensor_names_each_destination_with_its_label(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await send_links(gateway, linked, REFUSED, replace(CLOUD, label=None))
    state = hass.states.get("sensor.process_cosmos_destination_status")
    assert state
    assert state.attributes["webhook"] == {
        "label": "Node-RED",
        "address": "https://hooks.example",
        "state": "refused",
        "reason": "http_401",
    }
    assert state.attributes["cloud"]["label"] == "cloud"


async def pass_time(hass: HomeAssistant, freezer: FrozenDateTimeFactory, duration: timedelta) -> None:
    """Advance the clock."""
    freezer.tick(duration)
    async_fire_time_changed(hass)
    await hass.async_block_till_done()
