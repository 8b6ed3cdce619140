"""Messages equal to a companion app's command are shown as text; our own command still clears notifications."""

from collections.abc import Callable

import pytest
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.alerts.companion_commands import escape_command

from .push_server import Client, PushServer, cloud, register
from .site import Site

COMMANDS = [
    *("clear_badge", "clear_notification", "delete_alert", "hide_camera", "keep_screen_on", "live_activity"),
    *(
        "remove_channel",
        "request_location_update",
        "request_location_updates",
        "show_camera",
        "test_push_source",
        "TTS",
    ),
    *("update_complications", "update_widgets", "command_activity", "command_app_lock", "command_ble_transmitter"),
    *("command_bluetooth", "command_broadcast_intent", "command_dnd", "command_flashlight", "command_launch_app"),
    *("command_media", "command_ringer_mode", "command_screen_on", "command_stop_tts", "command_volume_level"),
    *("command_wake_word_detection", "command_webview", "command_of_a_later_release", "kiosk_set_volume"),
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_in_any_case_and_between_blanks_is_escaped(command: str) -> None:
    for message in (command, command.upper(), command.title(), f" {command}\n"):
        assert escape_command(message) == f"{message}\u200b"


@pytest.mark.parametrize(
    "message", ["", "Water", "tts is loud", "command_dnd is on", "a command_dnd", "command_", "clear"]
)
def test_any_other_message_is_unchanged(message: str) -> None:
    assert escape_command(message) == message


@pytest.mark.filterwarnings("ignore:It is recommended to use web.*")  # Home Assistant's own http
async def test_a_phone_shows_a_command_as_text_and_still_executes_our_clearing_command(
    hass: HomeAssistant, client: Client, push_server: PushServer, add_site: Callable[..., Site]
) -> None:
    anna = await register(hass, client, "Anna", app_data=cloud(push_server, "anna"))
    await register(hass, client, "Bob", app_data=cloud(push_server, "bob"))
    site = add_site(phones=[anna.device_id], notify_entities=["notify.bob"])
    await site.set_up()

    for number, message in enumerate(("Clear_Notification", "TTS", "command_dnd", "Water")):
        raised = await site.raise_alert(message, group=str(number))
        shown = message if message == "Water" else f"{message}\u200b"
        assert push_server.messages("anna") == push_server.messages("bob") == [shown]
        push_server.bodies.clear()
        await site.call("resolve", alert=raised["id"])
        await site.until(lambda: push_server.messages("anna") == ["clear_notification"])
        assert push_server.pushes("anna")[0]["data"] == {"tag": raised["id"]}
        push_server.bodies.clear()
