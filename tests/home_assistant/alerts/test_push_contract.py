"""Contract tests for the private parts of ``mobile_app`` that notifications use; they fail when those change.

They use the real integration and a real push server.
"""

import asyncio
from typing import Any

import orjson
import pytest
from homeassistant.components.mobile_app import notify, push_notification
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import async_capture_events, async_fire_time_changed
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.process_cosmos.alerts import push
from custom_components.process_cosmos.alerts.notification_results import FailureCode
from custom_components.process_cosmos.alerts.push import PushFailedError, async_push, push_payload

from .push_server import Client, PushServer, Registered, register

NOTIFICATION = {
    "title": "Home",
    "message": "Water",
    "data": {"tag": "a", "actions": [{"action": "cosmos/1", "title": "Seen", "authenticationRequired": True}]},
}

pytestmark = pytest.mark.filterwarnings("ignore:It is recommended to use web.*")  # Home Assistant's own http


async def test_the_request_equals_that_of_the_notify_action(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered
) -> None:
    await async_push(hass, real_phone.entry, NOTIFICATION)
    await hass.services.async_call("notify", "mobile_app_anna", NOTIFICATION, blocking=True)
    ours, theirs = push_server.pushes("anna")
    assert ours == theirs
    assert ours["data"] == NOTIFICATION["data"]
    body = push_server.bodies["anna"][0]
    expected = {
        key: value for key, value in push_payload(real_phone.entry, NOTIFICATION).items() if key != "hass_confirm_id"
    }
    assert orjson.loads(body) == expected
    assert len(body) == len(orjson.dumps(expected))


async def test_the_phones_notify_entity_shows_that_it_was_notified(hass: HomeAssistant, real_phone: Registered) -> None:
    before = hass.states.get("notify.anna")
    assert before
    assert before.state == "unknown"
    await async_push(hass, real_phone.entry, NOTIFICATION)
    await hass.async_block_till_done()
    after = hass.states.get("notify.anna")
    assert after
    assert after.state != "unknown"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, FailureCode.PUSH_LIMITED),
        (404, FailureCode.PUSH_REFUSED),
        (500, FailureCode.PUSH_REFUSED),
    ],
)
async def test_a_refusal_of_the_push_service_is_raised(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered, status: int, code: FailureCode
) -> None:
    push_server.status["anna"] = status
    with pytest.raises(PushFailedError) as raised:
        await async_push(hass, real_phone.entry, NOTIFICATION)
    assert raised.value.translation_key == code


async def test_a_push_service_that_cannot_be_reached_is_raised(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered
) -> None:
    await push_server.stop()
    with pytest.raises(PushFailedError) as raised:
        await async_push(hass, real_phone.entry, NOTIFICATION)
    assert raised.value.translation_key == FailureCode.PUSH_UNREACHABLE


async def test_a_phone_without_push_service_that_is_not_connected_is_raised(
    hass: HomeAssistant, client: Client
) -> None:
    phone = await register(hass, client, "Anna", app_data={"push_websocket_channel": True})
    with pytest.raises(PushFailedError) as raised:
        await async_push(hass, phone.entry, NOTIFICATION)
    assert raised.value.translation_key == FailureCode.PHONE_NOT_CONNECTED


class Channel:
    """Phone's side of its local push channel."""

    def __init__(self, socket: Any, phone: Registered) -> None:  # noqa: ANN401 - the plugin's
        self._socket = socket
        self._phone = phone

    async def open(self, *, support_confirm: bool) -> None:
        await self._socket.send_json_auto_id(
            {
                "type": "mobile_app/push_notification_channel",
                "webhook_id": self._phone.webhook_id,
                "support_confirm": support_confirm,
            }
        )
        assert (await self._socket.receive_json())["success"]

    async def received(self) -> dict[str, Any]:
        event: dict[str, Any] = (await self._socket.receive_json())["event"]
        return event

    async def confirm(self, confirm_id: str) -> None:
        await self._socket.send_json_auto_id(
            {
                "type": "mobile_app/push_notification_confirm",
                "webhook_id": self._phone.webhook_id,
                "confirm_id": confirm_id,
            }
        )
        assert (await self._socket.receive_json())["success"]


@pytest.fixture
async def channel(hass: HomeAssistant, hass_ws_client: WebSocketGenerator, real_phone: Registered) -> Channel:
    return Channel(await hass_ws_client(hass), real_phone)


async def test_a_local_channel_that_confirms_needs_no_push_service(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered, channel: Channel
) -> None:
    await channel.open(support_confirm=True)
    pushing = hass.async_create_task(async_push(hass, real_phone.entry, NOTIFICATION))
    received = await channel.received()
    confirm_id = received.pop("hass_confirm_id")
    assert received == NOTIFICATION
    assert len(confirm_id) == len(push_payload(real_phone.entry, NOTIFICATION)["hass_confirm_id"])
    assert not pushing.done()
    await channel.confirm(confirm_id)
    await pushing
    assert push_server.tries == {}
    assert real_phone.webhook_id in hass.data["mobile_app"]["push_channel"]


async def test_a_local_push_that_is_not_confirmed_within_10_s_is_posted(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered, channel: Channel
) -> None:
    assert push_notification.PUSH_CONFIRM_TIMEOUT == 10
    await channel.open(support_confirm=True)
    pushing = hass.async_create_task(async_push(hass, real_phone.entry, NOTIFICATION))
    await channel.received()
    async_fire_time_changed(hass, fire_all=True)
    await pushing
    (push,) = push_server.pushes("anna")
    assert push == push_payload(real_phone.entry, NOTIFICATION) | {"hass_confirm_id": push["hass_confirm_id"]}


async def test_a_local_channel_that_is_not_confirmed_and_a_push_service_that_refuses_is_raised(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered, channel: Channel
) -> None:
    push_server.status["anna"] = 500
    await channel.open(support_confirm=True)
    pushing = hass.async_create_task(async_push(hass, real_phone.entry, NOTIFICATION))
    await channel.received()
    async_fire_time_changed(hass, fire_all=True)
    with pytest.raises(PushFailedError):
        await pushing


async def test_a_local_channel_without_confirmation_is_handed_over_only(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered, channel: Channel
) -> None:
    await channel.open(support_confirm=False)
    async with asyncio.timeout(5):
        await async_push(hass, real_phone.entry, NOTIFICATION)
    assert await channel.received() == NOTIFICATION
    assert push_server.tries == {}


async def test_the_private_function_exists() -> None:
    assert push._send_fn() is notify._send_message


async def test_without_the_private_function_the_public_action_notifies(
    hass: HomeAssistant, push_server: PushServer, real_phone: Registered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefer a notification with an unknown outcome to none."""
    monkeypatch.setattr(push, "_send_fn", lambda: None)
    called = async_capture_events(hass, "call_service")
    await async_push(hass, real_phone.entry, NOTIFICATION)
    assert [event.data["service"] for event in called] == ["mobile_app_anna"]
    (sent,) = push_server.pushes("anna")
    assert sent["data"] == NOTIFICATION["data"]
