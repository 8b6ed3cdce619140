"""Notifications to people until one of them answers."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from homeassistant.core import HomeAssistant, ServiceCall

from tests.home_assistant.alerts.site import Phone, Site


async def test_people_are_notified_in_all_rounds_without_a_gateway(site: Site, anna: Phone, ben: Phone) -> None:
    raised = await site.raise_alert(severity="critical", answers=[{"name": "Dealt with"}])
    assert raised["new"]
    assert raised["revision"] == 1
    assert len(anna.notifications) == len(ben.notifications) == 1
    assert anna.notifications[0]["message"] == "Water in the kitchen"
    assert anna.notifications[0]["data"]["tag"] == raised["id"]
    assert anna.notifications[0]["data"]["push"]["interruption-level"] == "critical"
    assert anna.notifications[0]["data"]["ttl"] == 0
    assert [button["title"] for button in anna.notifications[0]["data"]["actions"]] == ["Dealt with", "Seen"]
    await site.pass_time(timedelta(minutes=1), hours=23)
    assert len(anna.notifications) == len(ben.notifications) == 12
    await site.pass_time(timedelta(minutes=10), hours=1)
    assert site.alerts.alive == ()
    alert = site.alerts.get(raised["id"])
    assert alert is not None
    assert alert.state == "unanswered"


async def test_a_repeated_call_without_new_content_is_only_counted(site: Site, anna: Phone) -> None:
    first = await site.raise_alert(entities=["binary_sensor.kitchen"])
    again = await site.raise_alert(entities=["binary_sensor.kitchen"])
    assert again == {**first, "new": False}
    assert site.alive.count == 2
    assert len(anna.notifications) == 1


@pytest.mark.parametrize(
    "changes", [{"message": "More water"}, {"entities": ["binary_sensor.bath"]}, {"severity": "critical"}]
)
async def test_a_repeated_call_with_new_content_notifies_a_minute_after_the_last_notification(
    site: Site, anna: Phone, changes: dict[str, str]
) -> None:
    await site.raise_alert(entities=["binary_sensor.kitchen"], answers=[{"name": "Dealt with"}])
    assert (await site.raise_alert(**{"entities": ["binary_sensor.kitchen"], **changes}))["revision"] == 2
    await site.pass_time(seconds=50)
    assert len(anna.notifications) == 1
    await site.pass_time(seconds=20)
    assert len(anna.notifications) == 2
    # The newest message; answers stay when the new call offers none.
    assert anna.button("Dealt with")


async def test_new_content_every_50_seconds_notifies_people_each_minute_and_level_2_starts(
    add_site: Callable[..., Site], anna: Phone
) -> None:
    site = add_site(phones=[anna.device_id], destinations=["cloud"])
    await site.set_up()
    firsts = []
    for number in range(72):
        await site.raise_alert(f"Water: {number} litres")
        firsts.append(site.alive.requests[0])
        await site.pass_time(seconds=50)
    assert site.alive.count == 72
    # Level 0 is notified exactly once a minute.
    assert len(anna.notifications) == 61
    # Level 1 keeps its planned time; from then on each revision requests it again.
    tenth_minute = site.alive.opened_at + timedelta(minutes=10)
    assert {request.key.level for request in firsts} == {1}
    assert {request.due for request in firsts[:12]} == {tenth_minute}
    assert all(tenth_minute <= request.due <= site.alive.notify_at for request in firsts[12:])
    assert site.alive.requests[0].due == site.alive.notify_at


async def test_an_acknowledgement_silences_and_people_are_notified_when_it_ends(
    site: Site, anna: Phone, ben: Phone
) -> None:
    await site.raise_alert()
    anna.press(anna.button("Seen"))
    await site.settle()
    assert site.alive.state == "acknowledged"
    assert site.alive.by == "Anna"
    await site.pass_time(timedelta(minutes=1), minutes=59)
    assert len(anna.notifications) == len(ben.notifications) == 1
    await site.pass_time(timedelta(minutes=1), minutes=2)
    assert site.alive.state == "open"
    assert len(anna.notifications) == len(ben.notifications) == 2


async def test_an_acknowledgement_silences_for_its_duration(site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    await site.call("acknowledge", alert=raised["id"], **{"for": {"minutes": 10}})
    await site.pass_time(timedelta(minutes=1), minutes=9)
    assert len(anna.notifications) == 1
    await site.pass_time(timedelta(minutes=1), minutes=2)
    assert len(anna.notifications) == 2


async def test_seen_does_not_shorten_an_acknowledgement_and_an_explicit_duration_does(site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    await site.call("acknowledge", alert=raised["id"], **{"for": {"hours": 8}})
    eight_hours = site.alive.notify_at
    anna.press(anna.button("Seen"))
    await site.settle()
    assert site.alive.notify_at == eight_hours
    await site.call("acknowledge", alert=raised["id"], **{"for": {"minutes": 10}})
    assert site.alive.notify_at < eight_hours
    anna.press(anna.button("Seen"))
    await site.settle()
    assert site.alive.acknowledged_for == 3600


async def test_new_content_after_an_acknowledgement_notifies_at_once(site: Site, anna: Phone) -> None:
    first = await site.raise_alert(entities=["binary_sensor.kitchen"])
    await site.call("acknowledge", group="leak")
    second = await site.raise_alert("Water in the bath", entities=["binary_sensor.bath"])
    assert second["id"] == first["id"]
    assert not second["new"]
    assert site.alive.state == "open"
    assert len(anna.notifications) == 2


async def test_a_call_after_an_answer_opens_and_notifies_of_a_new_alert(site: Site, anna: Phone) -> None:
    first = await site.raise_alert(answers=[{"name": "Dealt with"}])
    await site.call("answer", alert=first["id"], answer="Dealt with")
    second = await site.raise_alert(answers=[{"name": "Dealt with"}])
    assert second["new"]
    assert second["id"] > first["id"]
    assert len(anna.notifications) == 2


async def test_resolving_clears_the_notifications(site: Site, anna: Phone, ben: Phone) -> None:
    raised = await site.raise_alert()
    await site.call("resolve", group="leak", note="Dry again")
    await site.settle()
    assert site.alerts.alive == ()
    for phone in (anna, ben):
        assert phone.clearings == [{"message": "clear_notification", "data": {"tag": raised["id"]}}]
    await site.call("resolve", group="leak")  # nothing is alive: nothing happens


async def test_a_phone_no_longer_chosen_is_cleared_too(
    hass: HomeAssistant, site: Site, anna: Phone, ben: Phone
) -> None:
    raised = await site.raise_alert()
    hass.config_entries.async_update_entry(site.entry, options={**site.entry.options, "phones": [anna.app_id]})
    await site.reload()
    await site.call("resolve", group="leak")
    await site.settle()
    assert ben.clearings == [{"message": "clear_notification", "data": {"tag": raised["id"]}}]


async def test_removing_a_site_clears_its_notifications(hass: HomeAssistant, site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    assert await hass.config_entries.async_remove(site.entry.entry_id)
    assert anna.clearings == [{"message": "clear_notification", "data": {"tag": raised["id"]}}]


async def test_a_removed_phone_does_not_affect_other_recipients(
    site: Site, anna: Phone, ben: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    ben.remove()
    await site.raise_alert()
    assert len(anna.notifications) == 1
    await site.pass_time(minutes=3)
    assert caplog.text.count("phone_gone: Ben") == 1
    assert len(anna.notifications) == 1


async def test_the_next_level_starts_at_once_after_one_that_reached_nobody_and_retries_continue(
    add_site: Callable[..., Site], anna: Phone, ben: Phone
) -> None:
    site = add_site(phones=[anna.device_id, ben.device_id], destinations=["cloud"])
    await site.set_up()
    anna.away = ben.away = True
    await site.raise_alert()
    outcomes = site.alerts._journal.outcomes[site.alive.id]
    assert set(outcomes.first_notification) == {0}
    assert site.alive.requests[0].due <= site.alive.opened_at + timedelta(seconds=10)
    anna.away = False
    await site.pass_time(seconds=70)
    assert len(anna.notifications) == 1
    assert ben.notifications == []


async def test_notify_entities_are_notified_too(hass: HomeAssistant, add_site: Callable[..., Site]) -> None:
    calls: list[ServiceCall] = []
    hass.services.async_register("notify", "send_message", calls.append)
    hass.states.async_set("notify.siren", "unknown")
    site = add_site(notify_entities=["notify.siren", "notify.gone"])
    await site.set_up()
    await site.raise_alert()
    assert [dict(call.data) for call in calls] == [
        {"entity_id": "notify.siren", "message": "Water in the kitchen", "title": "Home"}
    ]


async def test_an_open_alert_continues_after_a_restart(site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    await site.reload()
    assert site.alive.id == raised["id"]
    assert len(anna.notifications) == 1
    await site.pass_time(timedelta(minutes=1), minutes=6)
    assert len(anna.notifications) == 2


async def test_the_record_log_is_deleted_with_the_entry(hass: HomeAssistant, site: Site) -> None:
    path = site.alerts._journal.record_log._path
    assert path.exists()
    await hass.config_entries.async_remove(site.entry.entry_id)
    assert not path.exists()
