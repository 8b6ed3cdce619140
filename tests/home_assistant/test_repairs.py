"""The fix flow of rejected events: list, send again, discard."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.contract.destinations import (
    DiscardRejected,
    ListRejected,
    RejectedEvent,
    RejectedEvents,
    SendAgain,
    Waiting,
)
from custom_components.process_cosmos.contract.devices import DeviceChanged
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import FromGateway, FromHomeAssistant
from custom_components.process_cosmos.flows import rejected_events
from custom_components.process_cosmos.flows.rejected_events import RejectedEventsFlow
from custom_components.process_cosmos.repairs import async_create_fix_flow
from tests.support.waiting import until

from .contract_gateway import IDLE, ContractGateway, done, refusing
from .devices import HOUSE
from .links import CLOUD, HOOK, load_texts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
REJECTED = RejectedEvent(
    event=Ulid("01JDG0000000000000000000V1"),
    destination="cloud",
    type="process_cosmos.alert.opened.v1",
    subject="x",
    code="invalid",
    message="Bad subject",
    number=1,
    attempts=1,
    rejected_at=NOON,
)
AGAIN = replace(REJECTED, event=Ulid("01JDG0000000000000000000V2"), number=2)
PACK = replace(
    REJECTED,
    event=Ulid("01JDG0000000000000000000V3"),
    destination="webhook",
    type="process_cosmos.readings.v1",
    code="refused_by_destination",
    message="The receiver replied 422.",
    number=3,
    attempts=3,
    reply='{"error":\n  "no `unit`"}' + "." * 1000,
)
CHANGE = replace(REJECTED, event=Ulid("01JDG0000000000000000000V5"), type="process_cosmos.device.changed.v1", number=5)
OURS = replace(REJECTED, event=Ulid("01JDG0000000000000000000V4"), type="com.example.order.v1", number=4)
ALL = (REJECTED, AGAIN, PACK, OURS)


@dataclass
class Outbox:
    """A gateway with rejected events. Sent again, ``back`` is rejected again; the rest is delivered if ``delivers``."""

    gateway: ContractGateway
    events: tuple[RejectedEvent, ...] = ALL
    back: tuple[RejectedEvent, ...] = ()
    delivers: bool = True

    def reply(self, message: FromHomeAssistant) -> FromGateway | None:
        if isinstance(message, ListRejected):
            return RejectedEvents(id=message.id, events=self.events)
        if isinstance(message, SendAgain | DiscardRejected):
            self.events = self.back if isinstance(message, SendAgain) else ()
            asyncio.get_running_loop().create_task(self.send())
        return done(message)

    async def send(self) -> None:
        waiting = Waiting() if self.delivers else Waiting(urgent=1)
        links = (replace(HOOK, label="Node-RED"), CLOUD)
        await self.gateway.send(replace(IDLE, links=links, rejected=len(self.events), waiting=waiting))


@pytest.fixture(autouse=True)
async def _texts(hass: HomeAssistant) -> None:
    await load_texts(hass)


@pytest.fixture
async def outbox(gateway: ContractGateway) -> Outbox:
    outbox = Outbox(gateway)
    gateway.reply = outbox.reply
    return outbox


@pytest.fixture
async def flow(hass: HomeAssistant, linked: MockConfigEntry, outbox: Outbox) -> RejectedEventsFlow:
    """The fix flow of the issue of rejected events."""
    await outbox.send()
    await until(lambda: rejected_issue(hass))
    issue = rejected_issue(hass)
    assert issue
    assert issue.is_fixable
    assert issue.translation_placeholders == {"site": "Process Cosmos"}
    flow = await async_create_fix_flow(hass, issue.issue_id, issue.data)
    assert isinstance(flow, RejectedEventsFlow)
    flow.hass, flow.handler, flow.flow_id, flow.context = hass, DOMAIN, "1", {}
    return flow


def rejected_issue(hass: HomeAssistant) -> ir.IssueEntry | None:
    found = [issue for issue in ir.async_get(hass).issues.values() if issue.translation_key == "rejected_events"]
    return found[0] if found else None


async def test_the_dialog_describes_rejected_events_in_words(
    flow: RejectedEventsFlow,
) -> None:
    result = await flow.async_step_init()
    assert result["type"] is FlowResultType.MENU
    said = result["description_placeholders"] or {}
    assert said["count"] == "4"
    urgent, readings, ours = said["events"].splitlines()  # each different rejection once
    assert urgent == "- Alert → Head office: Bad subject (2 events, tried once, 2026-11-22 04:00)"
    assert readings.startswith("""- Readings → Node-RED: The receiver replied 422. `{"error": "no 'unit'"}...""")
    assert readings.endswith("…` (tried 3 times, 2026-11-22 04:00)")
    assert ours == "- com.example.order.v1 → Head office: Bad subject (tried once, 2026-11-22 04:00)"


async def test_an_alert_is_named_by_its_message_and_a_device_by_its_title(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, outbox: Outbox, flow: RejectedEventsFlow
) -> None:
    device = HOUSE[0]
    await gateway.send(DeviceChanged(sequence=101, device=device))
    await until(lambda: linked.runtime_data.coordinator.devices.by_id)
    alert = await hass.services.async_call(
        DOMAIN, "alert", {"message": "*Water* in the cellar"}, blocking=True, return_response=True
    )
    assert alert
    outbox.events = (replace(REJECTED, subject=str(alert["id"])), replace(CHANGE, subject=device.id))
    said = (await flow.async_step_init())["description_placeholders"] or {}
    assert said["events"].splitlines() == [
        "- Alert `*Water* in the cellar` → Head office: Bad subject (tried once, 2026-11-22 04:00)",
        f"- Change of a device `{device.title}` → Head office: Bad subject (tried once, 2026-11-22 04:00)",
    ]


async def test_the_issue_is_removed_when_all_events_were_delivered(
    hass: HomeAssistant, gateway: ContractGateway, flow: RejectedEventsFlow
) -> None:
    result = await flow.async_step_send_again()
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert gateway.received_of(SendAgain)
    await until(lambda: not rejected_issue(hass))


async def test_events_rejected_again_are_shown_with_the_new_reply_and_the_issue_stays(
    hass: HomeAssistant, outbox: Outbox, flow: RejectedEventsFlow
) -> None:
    outbox.back = (replace(PACK, number=8, reply="still no"),)
    result = await flow.async_step_send_again()
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "refused_again")
    assert result["description_placeholders"] == {
        "count": "4",
        "back": "1",
        "events": "- Readings → Node-RED: The receiver replied 422. `still no` (tried 3 times, 2026-11-22 04:00)",
    }
    assert rejected_issue(hass)


async def test_an_outcome_unknown_after_seconds_is_reported_as_in_progress(
    outbox: Outbox, flow: RejectedEventsFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejected_events, "OUTCOME_WITHIN", 0.1)
    outbox.delivers = False
    result = await flow.async_step_send_again()
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "on_their_way")


async def test_discarding_needs_a_confirmation(
    hass: HomeAssistant, gateway: ContractGateway, flow: RejectedEventsFlow
) -> None:
    result = await flow.async_step_discard()
    assert (result["type"], result["description_placeholders"]) == (FlowResultType.FORM, {"count": "4"})
    assert not gateway.received_of(DiscardRejected)
    result = await flow.async_step_discard({})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert gateway.received_of(DiscardRejected)
    await until(lambda: not rejected_issue(hass))


async def test_nothing_is_lost_when_the_connection_is_lost_meanwhile(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, flow: RejectedEventsFlow
) -> None:
    await gateway.stop()
    await until(lambda: not linked.runtime_data.coordinator.connection.session)
    for result in (await flow.async_step_init(), await flow.async_step_send_again(), await flow.async_step_discard({})):
        assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "gateway_away")


async def test_a_refusal_is_not_reported_as_a_lost_connection(
    gateway: ContractGateway, flow: RejectedEventsFlow
) -> None:
    gateway.reply = refusing("store_failed")
    result = await flow.async_step_send_again()
    assert (result["reason"], result["description_placeholders"]) == ("refused", {"code": "store_failed"})


async def test_the_flow_of_a_removed_site_ends(hass: HomeAssistant, flow: RejectedEventsFlow) -> None:
    gone = await async_create_fix_flow(hass, "rejected_events_x", None)
    gone.hass, gone.handler, gone.flow_id, gone.context = hass, DOMAIN, "2", {}
    assert isinstance(gone, RejectedEventsFlow)
    assert (await gone.async_step_init())["reason"] == "gateway_away"


async def test_the_outcome_is_not_judged_by_the_status_from_before_sending_again(
    outbox: Outbox, flow: RejectedEventsFlow, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    is_settled = rejected_events._is_settled
    monkeypatch.setattr(rejected_events, "_LOOK_EVERY", 0.01)

    def reply(message: FromHomeAssistant) -> FromGateway | None:
        """Deliver all events, and report it only after the list was requested three times."""
        if isinstance(message, SendAgain):
            outbox.events = ()
            return done(message)
        if isinstance(message, ListRejected) and not outbox.events and len(looks) == 2:
            asyncio.get_running_loop().create_task(outbox.send())
        return outbox.reply(message)

    def look(*arguments: object) -> bool:
        looks.append(is_settled(*arguments))  # type: ignore[arg-type] # passed on as they are
        return looks[-1]

    outbox.gateway.reply = reply
    monkeypatch.setattr(rejected_events, "_is_settled", look)
    result = await flow.async_step_send_again()
    assert result["type"] is FlowResultType.CREATE_ENTRY
    assert looks[:2] == [False, False]
    assert looks[-1]


async def test_events_are_described_by_their_kind_while_the_site_is_not_loaded(
    hass: HomeAssistant, linked: MockConfigEntry, flow: RejectedEventsFlow
) -> None:
    assert await hass.config_entries.async_unload(linked.entry_id)
    [alert, change] = flow._lines([REJECTED, CHANGE])
    assert alert.startswith("- Alert → cloud: Bad subject")
    assert change.startswith("- Change of a device → cloud: Bad subject")
