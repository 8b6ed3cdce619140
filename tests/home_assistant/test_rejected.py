"""The actions that list, send again and discard rejected events."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import probatio as vol
import pytest
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import (
    DiscardRejected,
    ListRejected,
    RejectedEvent,
    RejectedEvents,
    SendAgain,
)
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import FromGateway, FromHomeAssistant
from tests.support.waiting import until

from .conftest import set_up
from .contract_gateway import ContractGateway, done, refusing
from .links import CLOUD, send_links

REJECTED = RejectedEvent(
    event=Ulid("01JDG0000000000000000000V1"),
    destination="cloud",
    type="process_cosmos.alert.opened.v1",
    subject="x",
    code="invalid",
    message="Bad subject",
    number=7,
    attempts=3,
    rejected_at=datetime(2026, 11, 22, 12, tzinfo=UTC),
    reply='{"detail": "no such building"}',
)
SETTLING = [("send_again", SendAgain), ("discard_rejected", DiscardRejected)]


def listing(message: FromHomeAssistant) -> FromGateway | None:
    """List two rejected events."""
    if isinstance(message, ListRejected):
        events = [each for each in (REJECTED, replace(REJECTED, number=9)) if each.number > message.after]
        return RejectedEvents(id=message.id, events=tuple(events))
    return done(message)


async def call(hass: HomeAssistant, action: str, context: Context | None = None, /, **data: object) -> Any:  # noqa: ANN401 - a reply
    returns = action == "list_rejected"
    return await hass.services.async_call(DOMAIN, action, data, True, context, return_response=returns)


async def refused(hass: HomeAssistant, action: str, /, **data: object) -> HomeAssistantError:
    with pytest.raises(HomeAssistantError) as raised:
        await call(hass, action, None, **data)
    return raised.value


async def test_rejected_events_are_listed_with_all_details(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    gateway.reply = listing
    await send_links(gateway, linked, CLOUD)
    first, second = (await call(hass, "list_rejected"))["events"]
    assert first == {
        "number": 7,
        "id": "01JDG0000000000000000000V1",
        "destination": "cloud",
        "label": "Head office",
        "type": "process_cosmos.alert.opened.v1",
        "subject": "x",
        "code": "invalid",
        "message": "Bad subject",
        "reply": '{"detail": "no such building"}',
        "attempts": 3,
        "rejected_at": "2026-11-22T12:00:00+00:00",
    }
    assert (await call(hass, "list_rejected", after=7))["events"] == [second]


@pytest.mark.parametrize(("action", "request_type"), SETTLING)
async def test_events_are_selected_by_number_and_without_numbers_all(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    *,
    action: str,
    request_type: type[SendAgain | DiscardRejected],
) -> None:
    await call(hass, action, numbers=[7, "9"], site=linked.entry_id)
    assert (await gateway.wait_for_message(request_type)).numbers == (7, 9)
    await call(hass, action, numbers=8)
    assert (await gateway.wait_for_message(request_type, 2)).numbers == (8,)
    await call(hass, action)
    assert (await gateway.wait_for_message(request_type, 3)).numbers is None


@pytest.mark.parametrize(("action", "request_type"), SETTLING)
@pytest.mark.parametrize("numbers", [[], ["all"], [-1], [2**63]])
async def test_an_empty_or_malformed_list_of_numbers_is_refused(
    hass: HomeAssistant,
    gateway: ContractGateway,
    linked: MockConfigEntry,
    *,
    action: str,
    request_type: type[SendAgain | DiscardRejected],
    numbers: list[object],
) -> None:
    with pytest.raises(vol.Invalid):
        await call(hass, action, numbers=numbers)
    assert not gateway.received_of(request_type)


@pytest.mark.parametrize(("action", "_"), SETTLING)
async def test_an_unknown_number_is_a_validation_error(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, action: str, _: object
) -> None:
    gateway.reply = refusing("unknown_rejected")
    error = await refused(hass, action, numbers=[1])
    assert isinstance(error, ServiceValidationError)
    assert error.translation_key == "unknown_rejected"
    assert error.translation_placeholders == {"code": "unknown_rejected", "message": "It is unknown_rejected"}


@pytest.mark.parametrize("action", ["list_rejected", "send_again", "discard_rejected"])
async def test_without_a_connection_the_actions_raise(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, action: str
) -> None:
    await gateway.stop()
    await until(lambda: not linked.runtime_data.coordinator.connection.session)
    error = await refused(hass, action)
    assert (type(error), error.translation_key) == (HomeAssistantError, "gateway_away")


async def test_a_site_without_the_app_has_no_rejected_events(hass: HomeAssistant, people_only: MockConfigEntry) -> None:
    for data in ({}, {"site": people_only.entry_id}):
        error = await refused(hass, "discard_rejected", **data)
        assert (type(error), error.translation_key) == (ServiceValidationError, "no_app")


async def test_the_only_site_with_the_app_needs_no_name(
    hass: HomeAssistant, people_only: MockConfigEntry, linked: MockConfigEntry, gateway: ContractGateway
) -> None:
    await call(hass, "discard_rejected")
    assert gateway.received_of(DiscardRejected)


async def test_with_several_sites_one_has_to_be_chosen(
    hass: HomeAssistant, linked: MockConfigEntry, gateway: ContractGateway
) -> None:
    async with ContractGateway() as other:
        second = MockConfigEntry(
            domain=DOMAIN,
            data={**linked.data, "url": other.url},
            options=linked.options,
            unique_id="second",
        )
        await set_up(hass, second)
        await until(lambda: second.runtime_data.coordinator.status)
        assert (await refused(hass, "discard_rejected")).translation_key == "several_sites"
        await call(hass, "discard_rejected", site=second.entry_id)
        assert (len(other.received_of(DiscardRejected)), len(gateway.received_of(DiscardRejected))) == (1, 0)
        assert await hass.config_entries.async_unload(second.entry_id)


async def test_an_unknown_site_is_a_validation_error(hass: HomeAssistant, linked: MockConfigEntry) -> None:
    error = await refused(hass, "send_again", site="nowhere")
    assert (type(error), error.translation_key) == (ServiceValidationError, "service_config_entry_not_found")


@pytest.mark.parametrize("action", ["list_rejected", "send_again", "discard_rejected"])
async def test_only_administrators_may_list_and_settle(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, action: str
) -> None:
    guest = MockUser(name="Guest").add_to_hass(hass)
    with pytest.raises(Unauthorized):
        await call(hass, action, Context(user_id=guest.id))
    assert not any(gateway.received_of(kind) for kind in (ListRejected, SendAgain, DiscardRejected))
