"""What comes between two steps: bursts, a start that is not over, a restored memory, a message out of measure."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest
from homeassistant.core import CoreState, HomeAssistant, ServiceCall

from custom_components.process_cosmos.contract.alerts import Propose, TransitionKind
from custom_components.process_cosmos.contract.identifiers import Ulid
from tests.home_assistant.alerts.gateway import Gateway
from tests.home_assistant.alerts.site import Phone, Site


@pytest.fixture
def gateway(linked: Site) -> Gateway:
    return Gateway(linked)


async def test_two_sensors_that_get_wet_at_the_same_moment_ring_at_once(site: Site, anna: Phone) -> None:
    await asyncio.gather(
        *(site.call("alert", message=message, group="leak") for message in ("Water here", "Water there"))
    )
    await site.settle()
    assert [notification["message"] for notification in anna.notifications] == ["Water there (2 times)"]
    assert anna.notifications[0]["data"]["actions"][0]["action"].split("/")[2] == "2"


async def test_new_content_at_the_very_moment_of_a_ring_does_not_put_it_off_again(site: Site, anna: Phone) -> None:
    await site.raise_alert("Water: 1 litre")
    await site.raise_alert("Water: 2 litres")
    for number in range(3, 6):
        site.freezer.tick(timedelta(seconds=60))  # no timer has had its turn yet
        await site.raise_alert(f"Water: {number} litres")
    assert len(anna.notifications) >= 4


async def test_what_has_run_out_before_home_assistant_has_started_swallows_no_new_call(
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


async def test_what_two_sensors_say_while_home_assistant_starts_rings_when_it_has_started(
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


async def test_people_hear_of_an_interrupted_answer_when_their_phones_are_there(
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


async def test_a_restored_alert_is_told_at_once_while_the_gateway_lives(
    linked: Site, gateway: Gateway, anna: Phone
) -> None:
    await gateway.connect()
    await linked.raise_alert()
    anna.sent.clear()
    gateway.disconnect()
    await linked.crash_after("start")
    await gateway.connect()
    for _ in range(10):
        await gateway.live()
        await linked.pass_time(timedelta(seconds=1), seconds=1)
    assert len(anna.notifications) == 1


async def test_a_link_that_flaps_after_a_restore_rings_once(linked: Site, gateway: Gateway, anna: Phone) -> None:
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
async def test_a_proposal_beyond_measure_is_refused_and_does_not_end_the_session(
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


async def test_a_gateway_that_joins_and_breaks_off_gets_nothing_of_before_it_was_there(
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


async def test_counting_a_call_every_second_costs_no_copy_of_the_alert(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    await linked.raise_alert()
    kept = len(linked.alerts._journal._after)
    for _ in range(50):
        await linked.call("alert", message="Water in the kitchen", group="leak")
    assert linked.alive.count == 51
    assert len(linked.alerts._journal._after) == kept


async def test_what_is_forgotten_is_forgotten_in_whole(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    for number in range(6):
        raised = await linked.call("alert", message="Water", group=f"group {number}")
        await gateway.propose(raised["id"], None, number=number)
        await linked.call("resolve", alert=raised["id"])
    await linked.until(lambda: gateway.log.count(TransitionKind.RESOLVED) == 6)
    await gateway.live()
    linked.freezer.tick(timedelta(days=31))
    await linked.alerts._async_compact()
    state = linked.alerts._journal.state
    assert (state.alerts, state.newest, state.alive, state.proposals) == ({}, {}, {}, {})
