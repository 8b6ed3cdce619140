"""Events a destination rejected: shown, sent again, discarded."""

from dataclasses import replace

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
)
from custom_components.process_cosmos.contract.identifiers import Ulid
from custom_components.process_cosmos.contract.messages import FromGateway, FromHomeAssistant, Request
from custom_components.process_cosmos.repairs import RejectedEventsFlow, async_create_fix_flow

from .contract_gateway import IDLE, ContractGateway, done, refusing, until

REJECTED = RejectedEvent(
    event=Ulid("01JDG0000000000000000000V1"),
    destination="cloud",
    type="process_cosmos.escalation.opened.v1",
    subject="x",
    code="invalid",
    message="Bad subject",
)


AGAIN = replace(REJECTED, event=Ulid("01JDG0000000000000000000V2"))
PACK = replace(
    REJECTED,
    event=Ulid("01JDG0000000000000000000V3"),
    destination="webhook",
    type="process_cosmos.readings.v1",
    code="refused_by_destination",
    message="The receiver replied 422.",
    reply='{"error":\n  "no `unit`"}' + "." * 1000,
)
OURS = replace(REJECTED, event=Ulid("01JDG0000000000000000000V4"), type="com.example.order.v1")


def listing(message: FromHomeAssistant) -> FromGateway | None:
    if isinstance(message, ListRejected):
        return RejectedEvents(id=message.id, events=(REJECTED, AGAIN, PACK, OURS))
    return done(message)


@pytest.fixture
async def flow(hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry) -> RejectedEventsFlow:
    """The flow of the issue that two rejected events make."""
    gateway.reply = listing
    await gateway.say(replace(IDLE, rejected=2))
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


async def test_the_dialog_says_in_words_what_was_rejected_by_whom_and_why(flow: RejectedEventsFlow) -> None:
    result = await flow.async_step_init()
    assert result["type"] is FlowResultType.MENU
    said = result["description_placeholders"] or {}
    assert said["count"] == "2"
    alarm, pack, ours = said["events"].splitlines()  # each different case once
    assert alarm == "- Escalation → cloud: Bad subject"
    assert pack.startswith("""- Readings → webhook: The receiver replied 422. `{"error": "no 'unit'"}...""")
    assert pack.endswith("…`")
    assert ours == "- com.example.order.v1 → cloud: Bad subject"


@pytest.mark.parametrize(("step", "request_type"), [("send_again", SendAgain), ("discard", DiscardRejected)])
async def test_rejected_events_are_sent_again_or_discarded_and_the_issue_ends(
    hass: HomeAssistant, gateway: ContractGateway, flow: RejectedEventsFlow, step: str, request_type: type[Request]
) -> None:
    result = await getattr(flow, f"async_step_{step}")()
    if request_type is DiscardRejected:  # what cannot be undone is asked twice
        assert (result["type"], result["description_placeholders"]) == (FlowResultType.FORM, {"count": "2"})
        assert not gateway.heard_of(request_type)
        result = await flow.async_step_discard({})
    assert result["type"] is FlowResultType.CREATE_ENTRY
    await gateway.until_heard(request_type)
    await gateway.say(replace(IDLE, dropped=2))
    await until(lambda: not rejected_issue(hass))


async def test_nothing_is_lost_when_the_gateway_is_away_meanwhile(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, flow: RejectedEventsFlow
) -> None:
    await gateway.stop()
    await until(lambda: not linked.runtime_data.coordinator.session)
    for result in (await flow.async_step_init(), await flow.async_step_send_again(), await flow.async_step_discard({})):
        assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "gateway_away")


async def test_a_refusal_is_not_called_away(gateway: ContractGateway, flow: RejectedEventsFlow) -> None:
    gateway.reply = refusing("store_failed")
    result = await flow.async_step_send_again()
    assert (result["reason"], result["description_placeholders"]) == ("refused", {"code": "store_failed"})


async def test_the_flow_of_a_site_that_is_gone_ends(hass: HomeAssistant, flow: RejectedEventsFlow) -> None:
    gone = await async_create_fix_flow(hass, "rejected_events_x", None)
    gone.hass, gone.handler, gone.flow_id, gone.context = hass, DOMAIN, "2", {}
    assert isinstance(gone, RejectedEventsFlow)
    assert (await gone.async_step_init())["reason"] == "gateway_away"
