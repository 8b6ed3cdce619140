"""Names from untrusted devices cannot flood Repairs or place links in texts."""

from dataclasses import replace

import pytest
from homeassistant.components import persistent_notification
from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.process_cosmos.alerts.notification_sender import NotificationSender
from custom_components.process_cosmos.contract.destinations import BrokerLink
from custom_components.process_cosmos.contract.devices import (
    Device,
    DeviceChanged,
    DeviceRemoved,
    Hint,
    MissedChange,
    MissedChangesReport,
    Property,
    PropertyKind,
)
from custom_components.process_cosmos.texts import escaped
from tests.support.waiting import until

from .contract_gateway import IDLE, ContractGateway
from .links import shown

LINK = "[click `me`\nnow](http://evil.example)"


def unclear_device(device: str, *names: str, title: str = "Cellar") -> Device:
    """Return a device with boolean properties whose names do not say what true means."""
    items = (Property(name=name, title=name, kind=PropertyKind.BOOLEAN, suggested_hint=Hint.VALVE) for name in names)
    return Device(id=device, title=title, properties=tuple(items))


def lines(hass: HomeAssistant, issue: str) -> list[str]:
    """Return the lines of the only issue."""
    [found] = [each for each in shown(hass) if each.translation_key == issue]
    placeholders = found.translation_placeholders or {}
    return next(text for name, text in placeholders.items() if name != "site").splitlines()


async def test_many_unclear_properties_are_one_issue_that_lists_twenty(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    names = [f"valve{number}" for number in range(12)]
    await gateway.send(*(DeviceChanged(sequence=101 + n, device=unclear_device(f"d{n}", *names)) for n in range(3)))
    await until(lambda: linked.runtime_data.coordinator.devices.sequence == 103)
    assert len(shown(hass)) == 1
    assert len(lines(hass, "polarity_unknown")) == 21
    assert lines(hass, "polarity_unknown")[-1] == "- … (+16)"
    await gateway.send(
        DeviceRemoved(sequence=104, device="d0"), DeviceChanged(sequence=105, device=unclear_device("d1"))
    )
    await until(lambda: linked.runtime_data.coordinator.devices.sequence == 105)
    assert len(lines(hass, "polarity_unknown")) == 12
    await gateway.send(DeviceRemoved(sequence=106, device="d2"))
    await until(lambda: not shown(hass))


async def test_a_change_of_a_clear_device_does_not_update_the_issue(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.send(DeviceChanged(sequence=101, device=unclear_device("d1", "valve")))
    await until(lambda: shown(hass))
    monkeypatch.setattr(ir, "async_create_issue", lambda *_, **__: pytest.fail("created again"))
    await gateway.send(DeviceChanged(sequence=102, device=unclear_device("d2")))
    await gateway.send(DeviceChanged(sequence=103, device=unclear_device("d1", "valve")))
    await until(lambda: linked.runtime_data.coordinator.devices.sequence == 103)


async def test_device_names_are_not_rendered_as_markdown_in_issues(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    await gateway.send(DeviceChanged(sequence=101, device=unclear_device("d1", "valve`", title=LINK)))
    await gateway.send(replace(IDLE, broker=BrokerLink(denied=("a`b",), limited=(LINK,))))
    await until(lambda: len(shown(hass)) == 3)
    assert lines(hass, "polarity_unknown") == [
        "- `[click 'me' now](http://evil.example)`: `valve'` (`open` / `closed`)"
    ]
    assert lines(hass, "broker_denied") == ["- `a'b`"]
    assert lines(hass, "device_limited") == ["- `[click 'me' now](http://evil.example)`"]


async def test_device_names_are_not_rendered_as_markdown_in_notifications(
    hass: HomeAssistant, gateway: ContractGateway, linked: MockConfigEntry
) -> None:
    device = Device(
        id="d1", title=LINK, properties=(Property(name="note", title="note", kind=PropertyKind.TEXT, value=""),)
    )
    object.__setattr__(linked, "created_at", linked.created_at.replace(year=2020))
    await gateway.send(DeviceChanged(sequence=101, device=device))
    missed = MissedChange(device="d1", age=60, property="note", value="www.evil.example\n- fine")
    await gateway.send(MissedChangesReport(since=120, changes=(missed,)))
    await until(lambda: notices(hass))
    [notice] = notices(hass)
    assert notice.splitlines()[1].startswith(
        r"- \[click \`me\` now\](http\://evil.example), note: www\.evil.example - fine "
    )


async def test_an_alert_is_shown_in_home_assistant_as_it_reads_on_a_phone(hass: HomeAssistant) -> None:
    NotificationSender(hass, "Home", lambda *_: None).show_in_home_assistant(
        "*Water*: see [here](http://evil.example)", "a"
    )
    assert notices(hass) == [r"\*Water\*: see \[here\](http\://evil.example)"]


@pytest.mark.parametrize(
    ("plain", "markdown"),
    [
        ("Water in the cellar: 3.5 l (2 times)\n- pump", "Water in the cellar: 3.5 l (2 times)\n- pump"),
        ("<img src=x> # a|b ~c~ _d_ \\", r"\<img src=x\> \# a\|b \~c\~ \_d\_ \\"),
        ("WWW.evil.example, a@evil.example", r"WWW\.evil.example, a\@evil.example"),
    ],
)
def test_plain_text_is_not_escaped(plain: str, markdown: str) -> None:
    assert escaped(plain) == markdown


def notices(hass: HomeAssistant) -> list[str]:
    """Return the texts of Home Assistant's own notifications."""
    found = persistent_notification._async_get_or_create_notifications(hass)  # type: ignore[attr-defined]  # the only list
    return [notice["message"] for notice in found.values()]
