"""Session with the gateway: order of the log, notification outcomes, proposals, and restored backups."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.util import dt as dt_util

from custom_components.process_cosmos.alerts.records import NotifiedRecord
from custom_components.process_cosmos.contract.alerts import AlertState, TransitionKind
from custom_components.process_cosmos.contract.errors import Code
from custom_components.process_cosmos.contract.identifiers import Position, Ulid
from custom_components.process_cosmos.contract.session import Problem
from custom_components.process_cosmos.gateway.client import GatewayAwayError, GatewayRefusedError
from tests.home_assistant.alerts.gateway import Gateway
from tests.home_assistant.alerts.site import Phone, Site
from tests.support.disks import disk_full

ANSWERS = [{"name": "Open", "actions": [{"action": "valve.open_valve"}]}, {"name": "Keep off"}]


@pytest.fixture
def valve(hass: HomeAssistant) -> list[ServiceCall]:
    calls: list[ServiceCall] = []
    hass.services.async_register("valve", "open_valve", calls.append)
    return calls


@pytest.fixture
def gateway(linked: Site) -> Gateway:
    return Gateway(linked)


async def test_people_are_notified_in_all_rounds_without_a_gateway(linked: Site, anna: Phone) -> None:
    await linked.raise_alert()
    await linked.pass_time(timedelta(minutes=1), hours=3)
    assert len(anna.notifications) == 12


async def test_the_log_is_sent_in_order_then_caught_up_then_new_records(linked: Site, gateway: Gateway) -> None:
    raised = await linked.raise_alert(answers=ANSWERS)
    await linked.raise_alert()
    await linked.raise_alert("Water everywhere")
    await gateway.connect()
    assert gateway.caught_up
    assert gateway.log == [TransitionKind.OPENED, TransitionKind.UPDATED]
    await linked.call("resolve", group="leak")
    await linked.until(lambda: gateway.log[-1] is TransitionKind.RESOLVED)
    assert gateway.requests[raised["id"]] == ()
    replica = gateway.replica[raised["id"]]
    assert replica.answers == ("Open", "Keep off")
    assert replica.count == 3
    assert "valve" not in repr(replica)  # it has the names of answers, but never their actions


async def test_applied_records_are_not_sent_again_and_lost_ones_are(linked: Site, gateway: Gateway) -> None:
    await linked.raise_alert()
    await gateway.connect()
    cursor, events = gateway.cursor, list(gateway.events)
    gateway.disconnect()
    await linked.call("acknowledge", group="leak")
    await linked.crash_after(None)
    await gateway.connect()
    assert gateway.log == [TransitionKind.OPENED, TransitionKind.ACKNOWLEDGED]
    gateway.cursor = None  # its store was lost before this was on its disk
    gateway.replica.clear()
    await gateway.connect()
    assert cursor
    assert gateway.cursor
    assert gateway.cursor > cursor
    assert gateway.events[2:] == [*events, gateway.events[1]]  # the same ids


async def test_times_are_sent_as_ages(linked: Site, gateway: Gateway) -> None:
    raised = await linked.raise_alert()
    await linked.pass_time(minutes=4)
    await gateway.connect()
    first = gateway.requests[raised["id"]][0]
    assert (first.key.level, first.key.round, first.key.recipient) == (1, 0, "destination:cloud")
    assert first.due_in == pytest.approx(360, abs=1)
    # While Home Assistant is away nobody at home is notified, so the destination is due at once.
    assert first.due_if_home_assistant_away_in == pytest.approx(-240, abs=1)
    assert gateway.replica[raised["id"]].until_in == pytest.approx(24 * 3600 - 240, abs=1)


async def test_a_level_that_reached_nobody_makes_requests_due_earlier_and_never_later(
    linked: Site, gateway: Gateway, anna: Phone, ben: Phone
) -> None:
    await gateway.connect()
    anna.away = True
    raised = await linked.raise_alert()
    assert gateway.log == [TransitionKind.OPENED]
    await linked.call("resolve", group="leak")
    ben.away = True
    raised = await linked.raise_alert()
    assert gateway.log[2:] == [TransitionKind.OPENED, TransitionKind.RESCHEDULED]
    assert gateway.requests[raised["id"]][0].due_in == pytest.approx(0, abs=1)
    anna.away = ben.away = False
    for _ in range(10):
        await gateway.send_committed()
        await linked.pass_time(seconds=10)
    assert gateway.log[4:] == []


async def test_a_failed_request_is_recorded_and_a_late_success_replaces_it(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    raised = await linked.raise_alert()
    key = gateway.requests[raised["id"]][0].key
    await gateway.report_outcome(key, reached=False, age=5)
    await gateway.report_outcome(key, reached=False, age=6)
    outcomes = linked.alerts._journal.outcomes[raised["id"]]
    assert outcomes.failed == {(1, "destination:cloud"): dt_util.utcnow() - timedelta(seconds=5)}
    await gateway.report_outcome(key, reached=True)
    assert outcomes.failed == {}
    records = [entry.record for entry in linked.alerts._journal.record_log.entries]
    assert [one.reached for one in records if isinstance(one, NotifiedRecord) and one.key == key] == [False, True]


@pytest.mark.parametrize("first", ["phone", "cloud"])
async def test_of_simultaneous_answers_from_phone_and_cloud_one_runs_and_the_other_is_refused(
    linked: Site, gateway: Gateway, anna: Phone, valve: list[ServiceCall], first: str
) -> None:
    await gateway.connect()
    raised = await linked.raise_alert(answers=ANSWERS)
    button = anna.button("Open")
    if first == "phone":
        anna.press(button)
        await gateway.propose(raised["id"], "Open")
        assert gateway.settled == {"proposal-1": "already_answered"}
        assert gateway.replica[raised["id"]].by == "Anna"
    else:
        await asyncio.gather(gateway.propose(raised["id"], "Open"), _press(anna, button))
        await linked.settle()
        assert gateway.settled == {"proposal-1": None}
        assert anna.refusals == ["already_answered"]
        assert gateway.replica[raised["id"]].by == "the control room"
    await linked.until(lambda: gateway.log[-1] is TransitionKind.OUTCOME)
    assert len(valve) == 1


async def _press(phone: Phone, button: str) -> None:
    phone.press(button)


async def test_a_proposal_sent_again_gets_the_same_result_and_runs_nothing(
    linked: Site, gateway: Gateway, valve: list[ServiceCall]
) -> None:
    await gateway.connect()
    raised = await linked.raise_alert(answers=ANSWERS)
    await gateway.propose(raised["id"], "Open")
    await linked.until(lambda: len(valve) == 1)
    await linked.crash_after(None)
    await gateway.connect()
    await gateway.propose(raised["id"], "Open")
    assert [(result.id, result.problem) for result in gateway.results] == [("proposal-1", None)]
    await gateway.propose(raised["id"], "Keep off", number=2)
    await gateway.propose(raised["id"], "Keep off", number=2)
    assert gateway.settled == {"proposal-1": None, "proposal-2": "already_answered"}
    assert gateway.results[-1].problem == Problem(code="already_answered", message="already_answered")
    assert len(valve) == 1


async def test_each_invalid_proposal_is_refused_with_its_code(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    raised = await linked.raise_alert(answers=ANSWERS)
    await linked.raise_alert("Water everywhere")
    await gateway.propose("01JD0000000000000000000001", "Open", number=1)
    await gateway.propose(raised["id"], "Blow up", number=2)
    await gateway.propose(raised["id"], "Open", revision=1, number=3)
    await gateway.propose(raised["id"], "Open", revision=2, age=25 * 3600, number=4)
    await gateway.propose(raised["id"], None, revision=2, age=601, number=5)
    assert list(gateway.settled.values()) == [
        "unknown_alert",
        "not_offered",
        "answer_too_late",
        "answer_too_late",
        "answer_too_late",
    ]
    assert linked.alive.state == "open"


async def test_an_acknowledgement_from_a_destination_silences_for_its_remaining_time(
    linked: Site, gateway: Gateway, anna: Phone
) -> None:
    await gateway.connect()
    raised = await linked.raise_alert()
    await gateway.propose(raised["id"], None, revision=None, age=300)
    assert linked.alive.state == "acknowledged"
    assert gateway.replica[raised["id"]].notify_in == pytest.approx(300, abs=1)
    await linked.pass_time(minutes=6)
    assert len(anna.notifications) == 2
    assert gateway.log == [TransitionKind.OPENED, TransitionKind.ACKNOWLEDGED, TransitionKind.ACKNOWLEDGEMENT_EXPIRED]


async def test_a_gateway_added_later_gets_the_alive_alerts(
    add_site: Callable[..., Site], anna: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = add_site(phones=[anna.device_id])
    await site.set_up()
    await site.raise_alert(group="old")
    await site.call("resolve", group="old")
    alive = await site.raise_alert()
    gateway = Gateway(site)
    await gateway.connect()
    assert list(gateway.replica) == [alive["id"]]


async def test_a_failing_disk_prevents_a_session_until_all_records_are_saved(
    linked: Site, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway.cursor = Position(run=Ulid("01JD0000000000000000000009"), n=3)
    with monkeypatch.context() as patch:
        patch.setattr("custom_components.process_cosmos.alerts.record_log.os.fsync", disk_full)
        with pytest.raises(GatewayAwayError):
            await gateway.connect()
    assert gateway.log == []
    await linked.pass_time(seconds=20)
    await gateway.connect()
    assert gateway.caught_up


# Restored backups.


async def restore(linked: Site, gateway: Gateway, until: str) -> None:
    """Restore Home Assistant from a backup made when ``until`` was the newest record."""
    gateway.disconnect()
    await linked.crash_after(until)


async def test_an_alert_only_the_gateway_knows_is_restored_and_notified_without_actions(
    linked: Site, gateway: Gateway, anna: Phone
) -> None:
    await gateway.connect()
    raised = await linked.raise_alert(answers=ANSWERS, entities=["valve.main"], severity="critical")
    anna.sent.clear()
    await restore(linked, gateway, "start")
    assert linked.alerts.alive == ()
    await gateway.connect()
    assert gateway.log[-1] is TransitionKind.RESTORED
    alive = linked.alive
    assert (alive.id, alive.revision, alive.content.entities) == (raised["id"], 2, ("valve.main",))
    assert alive.content.severity == "critical"
    assert alive.content.answers == ()
    assert gateway.replica[raised["id"]].revision == 2
    assert gateway.requests[raised["id"]] != ()
    await linked.pass_time(seconds=10)
    assert len(anna.notifications) == 1


@pytest.mark.parametrize("entry", ["ours", "another"])
async def test_alerts_of_another_entry_are_resolved_and_those_of_this_entry_restored(
    linked: Site, gateway: Gateway, anna: Phone, entry: str
) -> None:
    await gateway.connect()
    left = await linked.raise_alert()
    anna.sent.clear()
    await restore(linked, gateway, "start")
    is_ours = entry == "ours"
    gateway.entry = linked.entry.entry_id if is_ours else entry
    await gateway.connect()
    assert gateway.log[-1] is (TransitionKind.RESTORED if is_ours else TransitionKind.RESOLVED)
    assert gateway.replica[left["id"]].state.alive is is_ours
    await linked.pass_time(seconds=10)
    assert len(anna.notifications) == is_ours


async def test_of_two_alerts_in_a_group_the_one_only_the_gateway_knew_is_resolved(
    linked: Site, gateway: Gateway
) -> None:
    await gateway.connect()
    lost = await linked.raise_alert()
    await restore(linked, gateway, "start")
    ours = await linked.raise_alert()
    await gateway.connect()
    assert linked.alive.id == ours["id"]
    assert gateway.replica[lost["id"]].state is AlertState.RESOLVED
    assert gateway.replica[ours["id"]].state is AlertState.OPEN


async def test_an_alert_closed_at_the_gateway_is_closed_and_its_answer_does_not_run(
    linked: Site, gateway: Gateway, valve: list[ServiceCall]
) -> None:
    await gateway.connect()
    raised = await linked.raise_alert(answers=ANSWERS)
    await linked.call("answer", alert=raised["id"], answer="Open")
    await linked.until(lambda: gateway.log[-1] is TransitionKind.OUTCOME)
    valve.clear()
    await restore(linked, gateway, "opened")
    assert linked.alive.id == raised["id"]
    await gateway.connect()
    assert linked.alerts.alive == ()
    assert linked.known(raised["id"]).state == "answered"
    await linked.pass_time(minutes=1)
    assert valve == []


async def test_an_alert_alive_on_both_sides_gets_a_new_revision(linked: Site, gateway: Gateway, anna: Phone) -> None:
    await gateway.connect()
    raised = await linked.raise_alert(answers=ANSWERS)
    await linked.raise_alert("Water everywhere")
    await restore(linked, gateway, "opened")
    await gateway.connect()
    assert gateway.log[-1] is TransitionKind.RECONCILED
    assert linked.alive.revision == gateway.replica[raised["id"]].revision == 3
    assert linked.alive.answers_from == 2
    await gateway.propose(raised["id"], "Keep off", revision=1)
    assert gateway.settled == {"proposal-1": "answer_too_late"}


async def test_a_clock_set_back_does_not_hide_the_records_of_a_restored_log(linked: Site, gateway: Gateway) -> None:
    await gateway.connect()
    raised = await linked.raise_alert()
    gateway.cursor = Position(run=Ulid("5ZZZZZZZZZZZZZZZZZZZZZZZ00"), n=9)
    await gateway.connect()
    assert gateway.replica[raised["id"]].revision == 2
    await linked.call("resolve", group="leak")
    await linked.settle()
    assert gateway.log[-2:] == [TransitionKind.RECONCILED, TransitionKind.RESOLVED]


async def test_a_gateway_with_the_greatest_possible_run_is_refused_and_people_are_still_notified(
    linked: Site, gateway: Gateway
) -> None:
    gateway.cursor = Position(run=Ulid("7" + "Z" * 25), n=9)
    with pytest.raises(GatewayRefusedError) as refused:
        await gateway.connect()
    assert refused.value.code == Code.MALFORMED
    assert linked.known((await linked.raise_alert())["id"]).alive


async def test_an_alert_with_the_greatest_possible_id_does_not_supersede_later_answers(
    linked: Site, gateway: Gateway, valve: list[ServiceCall]
) -> None:
    await gateway.connect()
    await linked.raise_alert()
    await linked.until(lambda: bool(gateway.replica))
    [known] = gateway.replica.values()
    await linked.call("resolve", group="leak")
    foreign = replace(known, id=Ulid("7" + "Z" * 25))
    gateway.cursor = Position(run=Ulid("5ZZZZZZZZZZZZZZZZZZZZZZZ00"), n=9)
    gateway.replica, gateway.positions = {foreign.id: foreign}, {foreign.id: gateway.cursor}
    await gateway.connect()
    assert linked.alive.id == foreign.id
    await linked.call("resolve", group="leak")
    after = await linked.raise_alert(answers=ANSWERS)
    await linked.call("answer", alert=after["id"], answer="Open")
    await linked.until(lambda: len(valve) == 1)


async def test_closed_alerts_are_deleted_after_30_days_unless_the_gateway_still_needs_them(
    linked: Site, gateway: Gateway
) -> None:
    first = await linked.raise_alert()
    for _ in range(5):
        await linked.call("resolve", group="leak")
        await linked.raise_alert()
    await linked.call("resolve", group="leak")
    linked.freezer.tick(timedelta(days=31))
    await linked.reload()
    assert linked.alerts.get(first["id"])  # no gateway has it yet
    await gateway.connect()
    await gateway.send_committed()
    kept = await linked.raise_alert()
    await linked.pass_time(timedelta(days=1), days=1)
    await linked.until(lambda: linked.alerts.get(first["id"]) is None)
    await linked.reload()
    assert linked.alerts.get(first["id"]) is None
    assert linked.alerts.get(kept["id"])
    await gateway.connect()
    assert gateway.caught_up
