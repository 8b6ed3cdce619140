"""People are told until somebody answers."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from homeassistant.core import HomeAssistant, ServiceCall

from tests.home_assistant.alerts.site import Phone, Site


async def test_people_are_told_in_full_without_a_gateway(site: Site, anna: Phone, ben: Phone) -> None:
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


async def test_a_recurrence_without_news_is_counted_and_not_told(site: Site, anna: Phone) -> None:
    first = await site.raise_alert(entities=["binary_sensor.kitchen"])
    again = await site.raise_alert(entities=["binary_sensor.kitchen"])
    assert again == {**first, "new": False}
    assert site.alive.count == 2
    assert len(anna.notifications) == 1


@pytest.mark.parametrize(
    "news", [{"message": "More water"}, {"entities": ["binary_sensor.bath"]}, {"severity": "critical"}]
)
async def test_a_recurrence_with_news_rings_a_minute_after_the_last_ring(
    site: Site, anna: Phone, news: dict[str, str]
) -> None:
    await site.raise_alert(entities=["binary_sensor.kitchen"], answers=[{"name": "Dealt with"}])
    assert (await site.raise_alert(**{"entities": ["binary_sensor.kitchen"], **news}))["revision"] == 2
    await site.pass_time(seconds=50)
    assert len(anna.notifications) == 1
    await site.pass_time(seconds=20)
    assert len(anna.notifications) == 2
    # The newest message; answers stay when the new call offers none.
    assert anna.button("Dealt with")


async def test_new_content_every_50_seconds_for_an_hour_tells_people_each_minute_and_level_2_comes(
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
    # Level 0 once a minute, never silent, never more often.
    assert len(anna.notifications) == 61
    # Level 1 is due when it was from the beginning; from then on it is asked again with each ring.
    tenth_minute = site.alive.opened_at + timedelta(minutes=10)
    assert {request.key.level for request in firsts} == {1}
    assert {request.due for request in firsts[:12]} == {tenth_minute}
    assert all(tenth_minute <= request.due <= site.alive.notify_at for request in firsts[12:])
    assert site.alive.requests[0].due == site.alive.notify_at


async def test_an_acknowledgement_silences_and_rings_again_when_it_ends(site: Site, anna: Phone, ben: Phone) -> None:
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


async def test_an_acknowledgement_of_so_long_silences_for_so_long(site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    await site.call("acknowledge", alert=raised["id"], **{"for": {"minutes": 10}})
    await site.pass_time(timedelta(minutes=1), minutes=9)
    assert len(anna.notifications) == 1
    await site.pass_time(timedelta(minutes=1), minutes=2)
    assert len(anna.notifications) == 2


async def test_seen_does_not_shorten_an_acknowledgement_and_a_said_duration_does(site: Site, anna: Phone) -> None:
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


async def test_a_second_leak_after_an_acknowledged_one_rings_at_once(site: Site, anna: Phone) -> None:
    first = await site.raise_alert(entities=["binary_sensor.kitchen"])
    await site.call("acknowledge", group="leak")
    second = await site.raise_alert("Water in the bath", entities=["binary_sensor.bath"])
    assert second["id"] == first["id"]
    assert not second["new"]
    assert site.alive.state == "open"
    assert len(anna.notifications) == 2


async def test_a_second_leak_after_an_answered_one_is_a_new_alert_and_rings(site: Site, anna: Phone) -> None:
    first = await site.raise_alert(answers=[{"name": "Dealt with"}])
    await site.call("answer", alert=first["id"], answer="Dealt with")
    second = await site.raise_alert(answers=[{"name": "Dealt with"}])
    assert second["new"]
    assert second["id"] > first["id"]
    assert len(anna.notifications) == 2


async def test_resolving_takes_the_notifications_away(site: Site, anna: Phone, ben: Phone) -> None:
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


async def test_a_removed_site_takes_its_notifications_away(hass: HomeAssistant, site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    assert await hass.config_entries.async_remove(site.entry.entry_id)
    assert anna.clearings == [{"message": "clear_notification", "data": {"tag": raised["id"]}}]


async def test_a_removed_phone_is_not_reached_and_the_rest_goes_on(
    site: Site, anna: Phone, ben: Phone, caplog: pytest.LogCaptureFixture
) -> None:
    ben.remove()
    await site.raise_alert()
    assert len(anna.notifications) == 1
    await site.pass_time(minutes=3)
    assert caplog.text.count("phone_gone: Ben") == 1
    assert len(anna.notifications) == 1


async def test_a_level_that_reached_nobody_is_over_at_once_and_tries_go_on_each_minute(
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


async def test_notify_entities_are_told_too(hass: HomeAssistant, add_site: Callable[..., Site]) -> None:
    told: list[ServiceCall] = []
    hass.services.async_register("notify", "send_message", told.append)
    hass.states.async_set("notify.siren", "unknown")
    site = add_site(notify_entities=["notify.siren", "notify.gone"])
    await site.set_up()
    await site.raise_alert()
    assert [dict(call.data) for call in told] == [
        {"entity_id": "notify.siren", "message": "Water in the kitchen", "title": "Home"}
    ]


async def test_what_was_open_is_told_on_after_a_restart(site: Site, anna: Phone) -> None:
    raised = await site.raise_alert()
    await site.reload()
    assert site.alive.id == raised["id"]
    assert len(anna.notifications) == 1
    await site.pass_time(timedelta(minutes=1), minutes=6)
    assert len(anna.notifications) == 2


async def test_the_memory_goes_with_the_entry(hass: HomeAssistant, site: Site) -> None:
    path = site.alerts._journal.memory._path
    assert path.exists()
    await hass.config_entries.async_remove(site.entry.entry_id)
    assert not path.exists()
