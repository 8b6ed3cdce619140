"""Notifications are posted with at most 3,500 bytes and shortened at readable positions."""

from collections.abc import Callable

import orjson
import pytest
from homeassistant.core import HomeAssistant

from custom_components.process_cosmos.texts import json_size, shortened_to_bytes

from .push_server import Client, PushServer, cloud, register
from .site import Phone, Site, add_phone

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
TEXTS = {
    "japanese": "水漏れ" * 1365,
    "emoji": "\U0001f4a7" * 4096,
    "families": FAMILY * 800,
    "quotes": '"\\' * 2048,
    "control": "\x01" * 4096,
    "accents": "e\u0301" * 2048,
    "flags": "\U0001f1f3\U0001f1f1" * 2048,
    "hands": "\U0001f44d\U0001f3fd" * 2048,
}


@pytest.mark.filterwarnings("ignore:It is recommended to use web.*")  # Home Assistant's own http
@pytest.mark.parametrize("text", TEXTS)
async def test_a_posted_notification_has_at_most_3500_bytes(
    hass: HomeAssistant, client: Client, push_server: PushServer, add_site: Callable[..., Site], text: str
) -> None:
    anna, ben = [
        await register(
            hass,
            client,
            name,
            os_name="iOS",
            app_id="io.robbie.HomeAssistant",
            app_data=cloud(push_server, name.lower()) | {"push_token": "t" * 163},
        )
        for name in ("Anna", "Ben")
    ]
    site = add_site(phones=[anna.device_id], notify_entities=[f"notify.{ben.name.lower()}"])
    hass.config_entries.async_update_entry(site.entry, title="House \U0001f3e0" * 50)
    await site.set_up()
    answers = [{"name": f"{number} {'答え' * 30}"} for number in range(10)]
    await site.raise_alert(TEXTS[text], answers=answers, severity="critical")
    (notification,) = push_server.pushes("anna")
    assert [button["title"] for button in notification["data"]["actions"]][-1] == "Seen"
    for body in (*push_server.bodies["anna"], *push_server.bodies["ben"]):
        assert 3000 - 500 < len(body) <= 3500
        message = orjson.loads(body)["message"]
        assert message.endswith("…")
        assert TEXTS[text].startswith(message[:-1])
        assert len(message) > 150


@pytest.mark.parametrize(
    ("text", "unit"),
    [("families", FAMILY), ("accents", "e\u0301"), ("flags", TEXTS["flags"][:2]), ("hands", TEXTS["hands"][:2])],
)
def test_a_grapheme_is_not_split(text: str, unit: str) -> None:
    for limit in range(100, 140):
        cut = shortened_to_bytes(TEXTS[text], limit)
        assert json_size(cut) <= limit
        assert len(cut[:-1]) % len(unit) == 0


@pytest.mark.parametrize("text", TEXTS.values())
@pytest.mark.parametrize("limit", [-1, 0, 2, 3, 10, 100])
def test_a_shortened_text_respects_any_limit(text: str, limit: int) -> None:
    assert json_size(shortened_to_bytes(text, limit)) <= max(limit, 0)


def test_a_letter_with_thousands_of_marks_is_split() -> None:
    assert len(shortened_to_bytes("e" + "\u0301" * 3000, 1000)) > 400


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert shortened_to_bytes("a\ud83d", 100) == "a?"


async def test_a_text_that_fits_is_not_cut(site: Site, anna: Phone) -> None:
    await site.raise_alert("水漏れ" * 250)
    (notification,) = anna.notifications
    assert notification["message"] == "水漏れ" * 250


@pytest.mark.parametrize(
    ("registration", "shown"),
    [
        ({"os_name": "Android"}, ["1", "2", "Seen"]),
        ({"os_name": "iOS"}, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "Seen"]),
        (
            {"os_name": "", "app_id": "io.robbie.HomeAssistant.beta"},
            ["1", "2", "3", "4", "5", "6", "7", "8", "9", "Seen"],
        ),
        ({"os_name": "Sailfish", "app_id": "other"}, ["1", "2", "Seen"]),
    ],
)
async def test_as_many_answers_are_offered_as_the_platform_shows(
    hass: HomeAssistant, add_site: Callable[..., Site], registration: dict[str, str], shown: list[str]
) -> None:
    phone = add_phone(hass, "Phone")
    hass.config_entries.async_update_entry(phone.entry, data={**phone.entry.data, **registration})
    site = add_site(phones=[phone.device_id])
    await site.set_up()
    await site.raise_alert(answers=[{"name": str(number)} for number in range(1, 11)])
    assert [button["title"] for button in phone.notifications[0]["data"]["actions"]] == shown
    phone.press(phone.button(shown[-2]))
    await site.until(lambda: not site.alerts.alive)
