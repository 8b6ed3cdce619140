"""Unreachable phones and recipients that are renamed or removed, with Home Assistant's own ``mobile_app``."""

from collections.abc import Callable
from datetime import timedelta
from typing import Literal

import pytest
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers import issue_registry as ir

from custom_components.process_cosmos.const import DOMAIN

from .push_server import Client, PushServer, Registered, cloud, register
from .site import Site

pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.*")  # Home Assistant's own http


@pytest.fixture(autouse=True)
def _simulated_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a gateway, so that level 2 has requests; nothing is sent to it."""
    monkeypatch.setattr("custom_components.process_cosmos.CosmosCoordinator", lambda *_: None)


@pytest.fixture
async def site(add_site: Callable[..., Site], real_phone: Registered) -> Site:
    """Return a site that notifies Anna's phone at once and the cloud after ten minutes."""
    site = add_site("http://127.0.0.1:1", phones=[real_phone.device_id], destinations=["cloud"])
    await site.set_up()
    return site


def issues(hass: HomeAssistant) -> dict[str, dict[str, str]]:
    """Return the placeholders of the repair issues, by translation key."""
    return {
        str(issue.translation_key): dict(issue.translation_placeholders or {})
        for (domain, _), issue in ir.async_get(hass).issues.items()
        if domain == DOMAIN
    }


def shown_here(hass: HomeAssistant) -> list[str]:
    """Return the messages of alerts in Home Assistant's own notifications."""
    notifications: dict[str, dict[str, str]] = hass.data.get("persistent_notification", {})
    return [one["message"] for key, one in notifications.items() if key.startswith(DOMAIN)]


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "push_refused"), (429, "push_limited"), (404, "push_refused"), (None, "push_unreachable")],
)
async def test_a_failing_push_service_starts_level_2_at_once_and_the_phone_is_notified_after_recovery(
    hass: HomeAssistant, site: Site, push_server: PushServer, status: int | None, code: str
) -> None:
    if status is None:
        await push_server.stop()
    else:
        push_server.status["anna"] = status
    await site.raise_alert()
    assert site.alive.requests[0].key.level == 1
    assert site.alive.requests[0].due - site.alive.opened_at < timedelta(seconds=1)
    await site.pass_time(timedelta(seconds=20), minutes=58)
    assert issues(hass) == {}
    await site.pass_time(timedelta(seconds=20), minutes=3)
    said = issues(hass)["recipient_fails"]
    assert (said["recipient"], said["code"]) == ("Anna", code)
    assert push_server.bodies == {}
    assert status is None or 60 <= push_server.tries["anna"] <= 62
    if status is None:
        await push_server.start()
    else:
        push_server.status["anna"] = 201
    await site.pass_time(timedelta(seconds=20), minutes=1)
    assert push_server.messages("anna") == ["Water in the kitchen"]
    assert issues(hass) == {}


async def test_a_phone_registered_again_is_notified(
    hass: HomeAssistant, client: Client, site: Site, real_phone: Registered, push_server: PushServer
) -> None:
    await site.raise_alert()
    (*_, seen) = push_server.pushes("anna")[0]["data"]["actions"]
    await hass.config_entries.async_remove(real_phone.entry.entry_id)
    anew = await register(hass, client, "Anna's new phone", device_id="anna", app_data=cloud(push_server, "anew"))
    assert (anew.webhook_id != real_phone.webhook_id, len(hass.config_entries.async_entries("mobile_app"))) == (True, 1)
    await site.pass_time(seconds=10)
    assert issues(hass) == {}
    await anew.press(seen["action"])
    await site.settle()
    assert site.alive.state == "acknowledged"
    await site.raise_alert("Water everywhere")
    assert push_server.messages("anew") == ["Water everywhere (2 times)"]


async def test_a_notify_entity_that_was_renamed_is_notified(
    hass: HomeAssistant, add_site: Callable[..., Site], real_phone: Registered, push_server: PushServer
) -> None:
    site = add_site(notify_entities=["notify.anna"])
    await site.set_up()
    er.async_get(hass).async_update_entity("notify.anna", new_entity_id="notify.tablet")
    await hass.async_block_till_done()
    await site.pass_time(seconds=10)
    assert issues(hass) == {}
    await site.raise_alert()
    assert push_server.messages("anna") == ["Water in the kitchen"]


async def test_a_missing_recipient_is_named_and_the_others_are_notified(
    hass: HomeAssistant,
    client: Client,
    add_site: Callable[..., Site],
    real_phone: Registered,
    push_server: PushServer,
) -> None:
    ben = await register(hass, client, "Ben", app_data=cloud(push_server, "ben"))
    site = add_site(phones=[real_phone.device_id, ben.device_id], notify_entities=["notify.anna"])
    await site.set_up()
    await hass.config_entries.async_remove(ben.entry.entry_id)
    await site.pass_time(seconds=10)
    said = issues(hass)
    assert set(said) == {"recipient_gone"}
    assert (said["recipient_gone"]["recipient"], said["recipient_gone"]["code"]) == ("Ben", "phone_gone")
    await site.raise_alert()
    assert push_server.messages("anna") == ["Water in the kitchen"], (
        "notified once, although the phone was chosen in two ways"
    )
    assert shown_here(hass) == []
    hass.config_entries.async_update_entry(site.entry, options={**site.entry.options, "phones": ["anna"]})
    await site.reload()
    assert issues(hass) == {}


async def test_a_site_without_recipients_is_reported_and_shows_alerts_in_home_assistant(
    hass: HomeAssistant, client: Client, site: Site, real_phone: Registered, push_server: PushServer
) -> None:
    await hass.config_entries.async_remove(real_phone.entry.entry_id)
    await site.pass_time(seconds=10)
    assert set(issues(hass)) == {"nobody_left", "recipient_gone"}
    assert issues(hass)["recipient_gone"]["recipient"] == "Anna"
    raised = await site.raise_alert("Water in the cellar")
    assert shown_here(hass) == ["Water in the cellar"]
    assert site.alive.requests[0].due - site.alive.opened_at < timedelta(seconds=1)
    hass.data["persistent_notification"].clear()
    await site.pass_time(minutes=2)
    assert shown_here(hass) == [], "a person has dismissed it"
    await site.raise_alert("Water in the attic")
    await site.pass_time(minutes=1)
    assert shown_here(hass) == ["Water in the attic"]
    await register(hass, client, "Anna", app_data=cloud(push_server, "anew"))
    await site.pass_time(minutes=1)
    assert push_server.messages("anew") == ["Water in the attic (2 times)"]
    assert issues(hass) == {}
    await site.call("resolve", alert=raised["id"])
    await site.settle()
    assert shown_here(hass) == []


@pytest.mark.parametrize("disabled", ["entity", "config entry"])
async def test_a_disabled_notify_entity_is_missing_until_it_is_enabled(
    hass: HomeAssistant, add_site: Callable[..., Site], real_phone: Registered, push_server: PushServer, disabled: str
) -> None:
    site = add_site(notify_entities=["notify.anna"])

    async def disable(by: Literal["user"] | None) -> None:
        if disabled == "entity":
            er.async_get(hass).async_update_entity("notify.anna", disabled_by=by and er.RegistryEntryDisabler(by))
        else:
            await hass.config_entries.async_set_disabled_by(real_phone.entry.entry_id, by and ConfigEntryDisabler(by))
        await hass.async_block_till_done(wait_background_tasks=True)
        await site.pass_time(seconds=10)

    await site.set_up()
    await disable("user")
    assert set(issues(hass)) == {"nobody_left", "recipient_gone"}
    assert (issues(hass)["recipient_gone"]["recipient"], issues(hass)["recipient_gone"]["code"]) == (
        "Anna",
        "entity_gone",
    )
    await site.raise_alert("Water in the cellar")
    assert shown_here(hass) == ["Water in the cellar"]
    await disable(None)
    assert issues(hass) == {}


async def test_a_failed_answer_is_shown_in_home_assistant_once_if_no_recipient_is_left(
    hass: HomeAssistant, site: Site, real_phone: Registered
) -> None:
    await hass.config_entries.async_remove(real_phone.entry.entry_id)
    fails = [{"stop": "no valve", "error": True}]
    raised = await site.raise_alert(answers=[{"name": "Close", "actions": fails}])
    await site.call("answer", alert=raised["id"], answer="Close")
    await site.until(lambda: site.known(raised["id"]).outcome)
    await site.settle()
    assert [message for message in shown_here(hass) if "could not be carried out" in message]
    hass.data["persistent_notification"].clear()
    await site.pass_time(minutes=3)
    assert shown_here(hass) == [], "a person has dismissed it"
