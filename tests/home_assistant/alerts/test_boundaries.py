"""Boundary cases: bursts of calls, calls during the start, restored record logs, huge durations."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import yaml
from homeassistant.core import CoreState, HomeAssistant, ServiceCall

from custom_components import process_cosmos
from custom_components.process_cosmos.alerts.policy import GIVE_UP_AFTER
from custom_components.process_cosmos.contract.alerts import Propose, TransitionKind
from custom_components.process_cosmos.contract.durations import DEFAULT_ACKNOWLEDGEMENT
from custom_components.process_cosmos.contract.identifiers import Ulid
from tests.home_assistant.alerts.gateway import Gateway
from tests.home_assistant.alerts.site import Phone, Site


@pytest.fixture
def gateway(linked: Site) -> Gateway:
    return Gateway(linked)


def test_the_forms_of_the_actions_show_the_durations_that_apply() -> None:
    actions = yaml.safe_load((Path(process_cosmos.__file__).parent / "services.yaml").read_text())
    assert timedelta(**actions["acknowledge"]["fields"]["for"]["default"]).total_seconds() == DEFAULT_ACKNOWLEDGEMENT
    assert timedelta(**actions["alert"]["fields"]["advanced"]["fields"]["give_up_after"]["default"]) == GIVE_UP_AFTER


async def test_two_calls_at_the_same_moment_notify_once_with_the_newest_message(site: Site, anna: Phone) -> None:
    await asyncio.gather(
        *(site.call("alert", message=message, group="leak") for message in ("Water here", "Water there"))
    )
    await site.settle()
    assert [notification["message"] for notification in anna.notifications] == ["Water there (2 times)"]
    assert anna.notifications[0]["data"]["actions"][0]["action"].split("/")[2] == "2"


async def test_new_content_when_a_notification_is_due_does_not_postpone_it_again(site: Site, anna: Phone) -> None:
    await site.raise_alert("Water: 1 litre")
    await site.raise_alert("Water: 2 litres")
    for number in range(3, 6):
        site.freezer.tick(timedelta(seconds=60))  # no timer has fired yet
        await site.raise_alert(f"Water: {number} litres")
    assert len(anna.notifications) >= 4


async def test_an_alert_that_expired_before_home_assistant_started_absorbs_no_new_call(
    hass: HomeAssistant, site: Site, anna: Phone
) -> None:
    first = await site.raise_alert()

    def a_day_later() -> None:
        hass.set_state(CoreState.starting)
        site.freezer.tick(timedelta(hours=25))

    await site.crash_after(None, before_start=a_day_later)
    anna.sent.clear()
    again = await site.raise_alert()
    hass.set_state(CoreState.running)
    hass.bus.async_fire("homeassistant_started")
    await site.settle()
    assert again["new"]
    assert again["id"] != first["id"]
    assert site.known(first["id"]).state == "unanswered"
    assert len(anna.notifications) == 1


async def test_calls_while_home_assistant_starts_notify_when_it_has_started(
    hass: HomeAssistant, site: Site, anna: Phone
) -> None:
    await site.crash_after(None, before_start=lambda: hass.set_state(CoreState.starting))
    await site.raise_alert("Water here")
    await site.raise_alert("Water there")
    assert anna.notifications == []
    hass.set_state(CoreState.running)
    hass.bus.async_fire("homeassistant_started")
    await site.settle()
    assert [notification["message"] for notification in anna.notifications] == ["Water there (2 times)"]


async def test_an_interrupted_answer_is_reported_once_phones_are_available(
    hass: HomeAssistant, site: Site, anna: Phone
) -> None:
    began, never = asyncio.Event(), asyncio.Event()

    async def hang(_: ServiceCall) -> None:
        began.set()
        await never.wait()

    hass.services.async_register("valve", "open_valve", hang)
    raised = await site.raise_alert(answers=[{"name": "Open", "actions": [{"action": "valve.open_valve"}]}])
    await site.call("answer", alert=raised["id"], answer="Open")
    await began.wait()

    def phones_come_late() -> None:
        hass.set_state(CoreState.starting)
        anna.remove()

    await site.crash_after("running", before_start=phones_come_late)
    anna.add_notify_action()
    hass.set_state(CoreState.running)
    hass.bus.async_fire("homeassistant_started")
    await site.until(lambda: site.known(raised["id"]).outcome)
    assert any("interrupted" in notice for notice in anna.notices)


async def test_a_restored_alert_notifies_at_once_while_the_gateway_is_available(
    linked: Site, gateway: Gateway, anna: Phone
) -> None:
    await gateway.connect()
    await linked.raise_alert()
    anna.sent.clear()
    gateway.disconnect()
    await linked.crash_after("start")
    await gateway.connect()
    for _ in range(10):
        await gateway.send_committed()
        await linked.pass_time(timedelta(seconds=1), seconds=1)
    assert len(anna.notifications) == 1


async def test_reconnects_after_a_restore_notify_once(linked: Site, gateway: Gateway, anna: Phone) -> None:
    await gateway.connect()
    raised = await linked.raise_alert()
    await linked.raise_alert("Water everywhere")
    gateway.disconnect()
    await linked.crash_after("opened")
    anna.sent.clear()
    replica, cursor = dict(gateway.replica), gateway.cursor
    for _ in range(3):
        gateway.replica, gateway.cursor = dict(replica), cursor  # nothing reached its disk
        await gateway.connect()
    assert gateway.log.count(TransitionKind.RECONCILED) == 3
    assert linked.alive.revision == gateway.replica[raised["id"]].revision == 3
    assert len(anna.notifications) == 1


@pytest.mark.parametrize("answer", ["Open", None])
async def test_a_proposal_with_huge_durations_does_not_end_the_session(
    linked: Site, gateway: Gateway, answer: str | None
) -> None:
    await gateway.connect()
    raised = await linked.raise_alert(answers=[{"name": "Open"}])
    for number, (age, long) in enumerate(((1e300, 600.0), (1.0, 1e300))):
        await linked.alerts.gateway_sync.async_receive(
            Propose(
                id=f"proposal-{number}",
                alert=Ulid(raised["id"]),
                revision=None,
                answer=answer,
                age=age,
                by="the control room",
                acknowledge_for=long,
            )
        )
    await linked.settle()
    assert gateway.settled == {"proposal-0": "answer_too_late", "proposal-1": None}


async def test_a_new_gateway_that_reconnects_gets_no_alert_that_was_closed_before(
    add_site: Callable[..., Site], anna: Phone
) -> None:
    site = add_site(phones=[anna.device_id])
    await site.set_up()
    alive = await site.raise_alert()
    old = await site.raise_alert(group="old")
    await site.call("resolve", group="old")
    gateway = Gateway(site)
    await gateway.connect()
    gateway.disconnect()
    await gateway.connect()
    assert list(gateway.replica) == [alive["id"]]
    assert old["id"] not in gateway.replica


async def test_counting_calls_stores_no_copy_of_the_alert(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    await linked.raise_alert()
    kept = len(linked.alerts._journal._alerts_after)
    for _ in range(50):
        await linked.call("alert", message="Water in the kitchen", group="leak")
    assert linked.alive.count == 51
    assert len(linked.alerts._journal._alerts_after) == kept


async def test_compaction_removes_all_state_of_expired_alerts(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    for number in range(6):
        raised = await linked.call("alert", message="Water", group=f"group {number}")
        await gateway.propose(raised["id"], None, number=number)
        await linked.call("resolve", alert=raised["id"])
    await linked.until(lambda: gateway.log.count(TransitionKind.RESOLVED) == 6)
    await gateway.send_committed()
    linked.freezer.tick(timedelta(days=31))
    await linked.alerts._async_compact()
    state = linked.alerts._journal.state
    assert (state.alerts, state.newest, state.alive, state.proposals) == ({}, {}, {}, {})
