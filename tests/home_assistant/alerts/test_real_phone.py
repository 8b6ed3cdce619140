"""Home Assistant's own ``mobile_app``: a registered phone gets buttons, and its answers are processed."""

from collections.abc import Callable

import pytest
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
from pytest_homeassistant_custom_component.test_util.aiohttp import AiohttpClientMocker
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from tests.home_assistant.alerts.site import Site

PUSH_URL = "https://push.example/send"

REGISTRATION = {
    "app_id": "io.homeassistant.companion",
    "app_name": "Home Assistant",
    "app_version": "2026.11",
    "device_id": "phone-1",
    "device_name": "Anna's phone",
    "manufacturer": "Google",
    "model": "Pixel",
    "os_name": "Android",
    "os_version": "16",
    "supports_encryption": False,
    "app_data": {"push_token": "token", "push_url": PUSH_URL},
}


@pytest.mark.filterwarnings("ignore:It is recommended to use web.*")  # Home Assistant's own http
async def test_a_registered_phone_is_notified_and_its_second_answer_is_refused_with_the_winner(
    hass: HomeAssistant,
    hass_client: ClientSessionGenerator,
    aioclient_mock: AiohttpClientMocker,
    add_site: Callable[..., Site],
) -> None:
    aioclient_mock.post(PUSH_URL, json={}, status=201)  # type: ignore[no-untyped-call] # the plugin's
    for component in ("mobile_app", "repairs"):
        assert await async_setup_component(hass, component, {})
    await hass.async_block_till_done(wait_background_tasks=True)  # its notify platform comes by discovery
    client = await hass_client()
    registered = await (await client.post("/api/mobile_app/registrations", json=REGISTRATION)).json()
    await hass.async_block_till_done()
    entry = hass.config_entries.async_entries("mobile_app")[0]
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    site = add_site(phones=[device.id])
    await site.set_up()
    await site.until(lambda: hass.services.has_service("notify", "mobile_app_anna_s_phone"))

    raised = await site.raise_alert(answers=[{"name": "Dealt with"}, {"name": "Keep off"}])
    await site.until(lambda: aioclient_mock.mock_calls)
    pushes = [call[2] for call in aioclient_mock.mock_calls]
    assert [push["message"] for push in pushes] == ["Water in the kitchen"]
    buttons = {button["title"]: button["action"] for button in pushes[0]["data"]["actions"]}

    async def press(title: str) -> None:
        event = {"event_type": "mobile_app_notification_action", "event_data": {"action": buttons[title]}}
        reply = await client.post(
            f"/api/webhook/{registered['webhook_id']}", json={"type": "fire_event", "data": event}
        )
        assert reply.status == 200
        await site.settle()

    await press("Dealt with")
    assert site.known(raised["id"]).state == "answered"
    assert site.known(raised["id"]).by == "Anna's phone"
    await press("Keep off")
    await site.until(lambda: len(aioclient_mock.mock_calls) == 3)
    assert [call[2]["message"] for call in aioclient_mock.mock_calls[1:]] == [
        "clear_notification",
        "“Water in the kitchen” was already answered by Anna's phone: Dealt with",
    ]


@pytest.mark.filterwarnings("ignore:It is recommended to use web.*")  # Home Assistant's own http
async def test_two_phones_with_the_same_name_are_both_notified(
    hass: HomeAssistant,
    hass_client: ClientSessionGenerator,
    aioclient_mock: AiohttpClientMocker,
    add_site: Callable[..., Site],
) -> None:
    """Register two phones for which Home Assistant creates only one notify action, of one of them."""
    for component in ("mobile_app", "repairs"):
        assert await async_setup_component(hass, component, {})
    await hass.async_block_till_done(wait_background_tasks=True)
    client = await hass_client()
    for one in ("a", "b"):
        url = f"{PUSH_URL}/{one}"
        aioclient_mock.post(url, json={}, status=201)  # type: ignore[no-untyped-call] # the plugin's
        phone = {"device_id": one, "device_name": "iPhone", "app_data": {"push_token": one, "push_url": url}}
        assert (await client.post("/api/mobile_app/registrations", json=REGISTRATION | phone)).ok
        await hass.async_block_till_done()
    a, b = [
        device.id
        for entry in hass.config_entries.async_entries("mobile_app")
        for device in dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    ]
    site = add_site(phones=[a, b])
    await site.set_up()
    await site.raise_alert()
    await site.until(lambda: len(aioclient_mock.mock_calls) == 2)
    assert {str(call[1]) for call in aioclient_mock.mock_calls} == {f"{PUSH_URL}/a", f"{PUSH_URL}/b"}
    attempts = site.alerts._journal.outcomes[site.alive.id].attempts
    assert {recipient: one.reached for (_, recipient), one in attempts.items()} == {"phone:a": True, "phone:b": True}
