"""Answers: the first is accepted, its actions run once, and each row of the crash table that needs no backup."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from homeassistant.core import CoreState, HomeAssistant, ServiceCall
from homeassistant.exceptions import HomeAssistantError

from custom_components.process_cosmos.alerts.errors import AlertRefusedError
from tests.home_assistant.alerts.site import Phone, Site


@pytest.fixture
def valve(hass: HomeAssistant) -> list[ServiceCall]:
    """Register a valve's action and return the list of its calls."""
    calls: list[ServiceCall] = []

    async def turn(call: ServiceCall) -> None:
        calls.append(call)

    hass.services.async_register("valve", "open_valve", turn)
    return calls


def answers(if_interrupted: str = "skip", action: str = "valve.open_valve") -> list[dict[str, Any]]:
    actions = [{"action": action, "target": {"entity_id": "valve.main"}}]
    return [{"name": "Turn on again", "actions": actions, "if_interrupted": if_interrupted}, {"name": "Keep off"}]


def outcome(site: Site, alert: str) -> str | None:
    known = site.known(alert)
    return known.outcome and known.outcome.value


async def test_a_phones_answer_runs_its_actions_once_and_clears_the_other_phones(
    site: Site, anna: Phone, ben: Phone, valve: list[ServiceCall]
) -> None:
    raised = await site.raise_alert(answers=answers())
    buttons = {button["title"]: button for button in anna.notifications[0]["data"]["actions"]}
    assert buttons["Turn on again"]["authenticationRequired"]
    assert not buttons["Keep off"]["authenticationRequired"]
    anna.press(anna.button("Turn on again"))
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    assert [call.data["entity_id"] for call in valve] == [["valve.main"]]
    assert ben.clearings == [{"message": "clear_notification", "data": {"tag": raised["id"]}}]
    closed = site.alerts.get(raised["id"])
    assert closed
    assert (closed.state, closed.by, closed.answer) == ("answered", "Anna", "Turn on again")


@pytest.mark.parametrize(
    ("step", "ended", "reason"),
    [
        ({"stop": "the valve is stuck", "error": True}, "failed", "the valve is stuck"),
        ({"sequence": [{"stop": "the valve is stuck", "error": True}]}, "failed", "the valve is stuck"),
        ({"action": "valve.{{ 1 / 0 }}"}, "failed", "HomeAssistantError"),
        ({"stop": "it is dry"}, "done", None),
        ({"condition": "template", "value_template": "{{ false }}"}, "done", None),
        ({"sequence": [{"condition": "template", "value_template": "{{ false }}"}]}, "done", None),
    ],
)
async def test_actions_that_abort_have_failed_and_those_that_stop_are_done(
    site: Site, anna: Phone, step: dict[str, Any], ended: str, reason: str | None
) -> None:
    raised = await site.raise_alert(answers=[{"name": "Open", "actions": [step]}])
    await site.call("answer", alert=raised["id"], answer="Open")
    await site.until(lambda: outcome(site, raised["id"]))
    assert outcome(site, raised["id"]) == ended
    assert [reason is not None and reason in notice for notice in anna.notices] == ([True] if reason else [])


async def test_a_failed_answer_is_reported_once_a_phone_can_be_reached(
    site: Site, anna: Phone, ben: Phone, valve: list[ServiceCall]
) -> None:
    steps = [{"action": "valve.open_valve"}, {"stop": "stuck", "error": True}]
    raised = await site.raise_alert(answers=[{"name": "Open", "actions": steps, "if_interrupted": "repeat"}])
    anna.away = ben.away = True
    await site.call("answer", alert=raised["id"], answer="Open")
    await site.until(lambda: outcome(site, raised["id"]) == "failed")
    await site.pass_time(minutes=3)
    await site.crash_after("outcome")
    await site.pass_time(minutes=3)
    ben.away = False
    await site.pass_time(minutes=2)
    assert (len(anna.notices), len(ben.notices)) == (0, 1)
    assert "stuck" in ben.notices[0]
    await site.crash_after(None)
    await site.pass_time(minutes=2)
    assert len(ben.notices) == 1, "the failure is reported once"
    assert len(valve) == 1


async def test_reporting_a_failed_answer_is_given_up_after_two_days(site: Site, anna: Phone, ben: Phone) -> None:
    raised = await site.raise_alert(answers=[{"name": "Open", "actions": [{"stop": "stuck", "error": True}]}])
    anna.away = ben.away = True
    await site.call("answer", alert=raised["id"], answer="Open")
    await site.pass_time(timedelta(hours=7), hours=49)
    anna.away = False
    await site.pass_time(minutes=5)
    assert anna.notices == []


async def test_actions_that_time_out_have_failed(site: Site, anna: Phone) -> None:
    wait = {"wait_template": "{{ false }}", "timeout": {"seconds": 5}, "continue_on_timeout": False}
    raised = await site.raise_alert(answers=[{"name": "Open", "actions": [wait]}])
    await site.call("answer", alert=raised["id"], answer="Open")
    await site.pass_time(seconds=20)
    await site.until(lambda: outcome(site, raised["id"]))
    assert outcome(site, raised["id"]) == "failed"
    assert ["TimeoutError" in notice for notice in anna.notices] == [True]


async def test_the_second_answer_is_refused_and_its_phone_is_sent_the_winner(
    site: Site, anna: Phone, ben: Phone, valve: list[ServiceCall]
) -> None:
    raised = await site.raise_alert(answers=answers())
    anna.press(anna.button("Keep off"))
    ben.press(ben.button("Turn on again"))
    await site.settle()
    closed = site.alerts.get(raised["id"])
    assert closed
    assert closed.answer == "Keep off"
    assert ben.refusals == ["already_answered"]
    assert anna.refusals == []
    assert valve == []


async def test_an_answer_to_an_older_revision_is_refused(site: Site, anna: Phone, valve: list[ServiceCall]) -> None:
    await site.raise_alert(answers=answers())
    old = anna.button("Turn on again")
    await site.raise_alert("Water everywhere", answers=answers())
    anna.press(old)
    await site.settle()
    assert anna.refusals == ["answer_too_late"]
    assert site.alive.state == "open"
    assert valve == []


async def test_an_acknowledgement_of_an_older_revision_does_not_silence_a_newer_one(site: Site, anna: Phone) -> None:
    await site.raise_alert()
    old = anna.button("Seen")
    await site.raise_alert("Water everywhere")
    anna.press(old)
    await site.settle()
    assert anna.refusals == ["answer_too_late"]
    assert site.alive.state == "open"


async def test_rounds_and_the_end_of_an_acknowledgement_do_not_outdate_an_answer(
    site: Site, anna: Phone, valve: list[ServiceCall]
) -> None:
    raised = await site.raise_alert(answers=answers())
    first = anna.button("Turn on again")
    anna.press(anna.button("Seen"))
    await site.pass_time(timedelta(minutes=1), minutes=70)
    anna.press(first)
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    assert len(valve) == 1


async def test_an_answer_after_closing_is_too_late(site: Site, anna: Phone) -> None:
    await site.raise_alert(answers=answers())
    await site.call("resolve", group="leak")
    anna.press(anna.button("Keep off"))
    await site.settle()
    assert anna.refusals == ["answer_too_late"]


async def test_an_invalid_button_id_is_ignored(site: Site, anna: Phone) -> None:
    await site.raise_alert(answers=answers())
    for garbage in (None, 5, "", "other", "cosmos/x/1/a/answer/b", anna.button("Seen").replace("/1/", "/-1/")):
        site.hass.bus.async_fire("mobile_app_notification_action", {"action": garbage})
    await site.settle()
    assert site.alive.state == "open"
    anna.press(anna.button("Keep off").replace("Keep off", "Blow up"))
    await site.settle()
    assert anna.refusals == ["not_offered"]
    anna.press(anna.button("Keep off").replace(site.alive.id, "01JD0000000000000000000001"))
    await site.settle()
    assert anna.refusals == ["not_offered", "unknown_alert"]


async def test_the_answer_named_by_if_unanswered_runs_at_the_give_up_time(
    site: Site, anna: Phone, valve: list[ServiceCall]
) -> None:
    raised = await site.raise_alert(answers=answers(), if_unanswered="Turn on again", give_up_after={"minutes": 30})
    await site.pass_time(timedelta(minutes=1), minutes=31)
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    assert len(valve) == 1
    anna.press(anna.button("Keep off"))
    await site.settle()
    assert anna.refusals == ["answer_too_late"]


# The crash table.


async def test_a_crash_before_opened_is_on_disk_notifies_nobody(site: Site, anna: Phone) -> None:
    await site.raise_alert()
    anna.sent.clear()
    await site.crash_after("start")
    assert site.alerts.alive == ()
    await site.pass_time(minutes=6)
    assert anna.sent == []


async def test_a_crash_between_a_notification_and_its_record_repeats_the_notification(site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    await site.crash_after("opened")
    assert [notification["data"]["tag"] for notification in anna.notifications] == [raised["id"]] * 2
    assert anna.notifications[0]["data"]["actions"] == anna.notifications[1]["data"]["actions"]


async def test_a_crash_after_a_notifications_record_does_not_repeat_it(site: Site, anna: Phone, ben: Phone) -> None:
    await site.raise_alert()
    await site.crash_after(None)
    assert len(anna.notifications) == len(ben.notifications) == 1


@pytest.mark.parametrize("if_interrupted", ["skip", "repeat"])
async def test_a_crash_between_answered_and_running_runs_the_answer(
    site: Site, valve: list[ServiceCall], if_interrupted: str
) -> None:
    raised = await site.raise_alert(answers=answers(if_interrupted))
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    valve.clear()
    await site.crash_after("answered")
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    assert len(valve) == 1


async def test_a_crash_while_running_is_unknown_with_skip_and_reported(
    site: Site, anna: Phone, valve: list[ServiceCall]
) -> None:
    raised = await site.raise_alert(answers=answers("skip"))
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    valve.clear()
    await site.crash_after("running")
    await site.until(lambda: outcome(site, raised["id"]) == "unknown")
    assert valve == []
    assert any("whether it was carried out is unknown" in notice for notice in anna.notices)


async def test_a_crash_while_running_runs_again_with_repeat(site: Site, valve: list[ServiceCall]) -> None:
    raised = await site.raise_alert(answers=answers("repeat"))
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    valve.clear()
    await site.crash_after("running")
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    assert len(valve) == 1


async def test_a_crash_after_the_outcome_runs_nothing(site: Site, valve: list[ServiceCall]) -> None:
    raised = await site.raise_alert(answers=answers("repeat"))
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    valve.clear()
    await site.crash_after(None)
    await site.pass_time(minutes=1)
    assert valve == []


@pytest.mark.parametrize("record", ["answered", "running"])
async def test_an_answer_that_is_a_day_old_does_not_run_after_a_crash(
    site: Site, anna: Phone, valve: list[ServiceCall], record: str
) -> None:
    raised = await site.raise_alert(answers=answers("repeat"))
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    valve.clear()
    await site.crash_after(record, before_start=lambda: site.freezer.tick(timedelta(hours=25)))
    await site.until(lambda: outcome(site, raised["id"]) == "superseded")
    assert valve == []
    assert any("more than 24 hours old" in notice for notice in anna.notices)


async def test_an_answer_waits_until_home_assistant_has_started(
    hass: HomeAssistant, site: Site, valve: list[ServiceCall]
) -> None:
    raised = await site.raise_alert(answers=answers())
    hass.set_state(CoreState.starting)
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.settle()
    assert valve == []
    hass.set_state(CoreState.running)
    hass.bus.async_fire("homeassistant_started")
    await site.until(lambda: len(valve) == 1)


async def test_a_newer_alert_stops_a_running_answer_before_its_next_action(
    hass: HomeAssistant, site: Site, valve: list[ServiceCall]
) -> None:
    began, never = asyncio.Event(), asyncio.Event()

    async def wait(_: ServiceCall) -> None:
        began.set()
        await never.wait()

    hass.services.async_register("pump", "drain", wait)
    sequence = [{"action": "pump.drain"}, {"action": "valve.open_valve", "target": {"entity_id": "valve.main"}}]
    raised = await site.raise_alert(answers=[{"name": "Drain", "actions": sequence}])
    await site.call("answer", alert=raised["id"], answer="Drain")
    await began.wait()
    await site.call("alert", message="Water again", group="leak")
    await site.until(lambda: outcome(site, raised["id"]) == "superseded")
    assert valve == []


async def test_a_newer_alert_before_the_first_action_prevents_all_actions(site: Site, valve: list[ServiceCall]) -> None:
    raised = await site.raise_alert(answers=answers())
    closing = site.hass.async_create_task(site.call("answer", alert=raised["id"], answer="Turn on again"))
    await site.raise_alert()
    await closing
    await site.until(lambda: outcome(site, raised["id"]) == "superseded")
    assert valve == []


async def test_an_answer_that_waits_is_stopped_when_it_is_a_day_old(
    site: Site, anna: Phone, valve: list[ServiceCall]
) -> None:
    sequence = [{"delay": {"hours": 30}}, {"action": "valve.open_valve", "target": {"entity_id": "valve.main"}}]
    raised = await site.raise_alert(answers=[{"name": "Later", "actions": sequence}])
    await site.call("answer", alert=raised["id"], answer="Later")
    await site.until(lambda: site.known(raised["id"]).running)
    await site.pass_time(timedelta(hours=1), hours=25)
    await site.until(lambda: outcome(site, raised["id"]) == "superseded")
    assert valve == []
    assert any("not completely" in notice for notice in anna.notices)


async def test_an_action_that_is_registered_late_runs(hass: HomeAssistant, site: Site) -> None:
    raised = await site.raise_alert(answers=answers(action="siren.turn_off"))
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.pass_time(minutes=2)
    calls: list[ServiceCall] = []
    hass.services.async_register("siren", "turn_off", calls.append)
    await site.until(lambda: outcome(site, raised["id"]) == "done")
    assert len(calls) == 1


async def test_an_action_missing_for_five_minutes_has_failed_and_is_reported(site: Site, anna: Phone) -> None:
    raised = await site.raise_alert(answers=answers(action="siren.turn_off"))
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.pass_time(minutes=6)
    assert outcome(site, raised["id"]) == "failed"
    assert any("siren.turn_off is missing" in notice for notice in anna.notices)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (HomeAssistantError("jammed"), "HomeAssistantError"),
        (TimeoutError(), "no reply in time"),
        (RuntimeError("bug"), "RuntimeError"),
        (asyncio.CancelledError(), "action_cancelled"),
    ],
)
async def test_an_action_that_raises_has_failed_and_is_reported(
    hass: HomeAssistant, site: Site, anna: Phone, error: BaseException, reason: str
) -> None:
    async def jam(_: ServiceCall) -> None:
        raise error

    hass.services.async_register("valve", "open_valve", jam)
    raised = await site.raise_alert(answers=answers())
    await site.call("answer", alert=raised["id"], answer="Turn on again")
    await site.until(lambda: outcome(site, raised["id"]) == "failed")
    assert any(f"could not be carried out: {reason}." in notice for notice in anna.notices)


async def test_two_sites_have_separate_alerts(
    hass: HomeAssistant, add_site: Callable[..., Site], anna: Phone, ben: Phone
) -> None:
    home, cabin = add_site(phones=[anna.device_id]), add_site(phones=[ben.device_id])
    await home.set_up()
    if cabin.entry.state.value != "loaded":
        await cabin.set_up()
    first = await home.raise_alert(site=home.entry.entry_id)
    second = await cabin.raise_alert(site=cabin.entry.entry_id)
    await home.settle()
    assert first["id"] != second["id"]
    assert len(anna.notifications) == len(ben.notifications) == 1
    ben.press(ben.button("Seen"))
    await cabin.settle()
    assert (home.alive.state, cabin.alive.state) == ("open", "acknowledged")
    with pytest.raises(AlertRefusedError):
        await home.call("answer", alert=first["id"], answer="x")
