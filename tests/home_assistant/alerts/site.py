"""Test site: phones that store what they receive, and a clock that can be advanced."""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.components.mobile_app.push_notification import PushChannel
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import translation
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.process_cosmos.alerts.engine import Alerts
from custom_components.process_cosmos.alerts.model import Alert
from custom_components.process_cosmos.alerts.record_frames import find_frames
from custom_components.process_cosmos.const import DOMAIN

SENTENCES = {
    code: re.compile(re.sub(r"\\\{\w+\\\}", ".*", re.escape(exception["message"].rstrip("."))))
    for code, exception in json.loads(
        Path("custom_components/process_cosmos/translations/en.json").read_text(encoding="utf-8")
    )["exceptions"].items()
}


@dataclass
class Phone:
    """Phone with a local push channel without confirmations. ``sent``: what it received; ``away``: pushes fail."""

    hass: HomeAssistant
    entry: MockConfigEntry
    device_id: str
    sent: list[dict[str, Any]] = field(default_factory=list)
    away: bool = False

    @property
    def app_id(self) -> str:
        """Device id of the companion app, which options store."""
        own_id: str = self.entry.data["device_id"]
        return own_id

    @property
    def notifications(self) -> list[dict[str, Any]]:
        """Received notifications of alerts, without plain messages and without clearing commands."""
        return [data for data in self.sent if "actions" in data.get("data", {})]

    @property
    def notices(self) -> list[str]:
        return [data["message"] for data in self.sent if data not in self.notifications and data not in self.clearings]

    @property
    def refusals(self) -> list[str]:
        """Codes of the refusals among the plain messages."""
        return [code for notice in self.notices for code, sentence in SENTENCES.items() if sentence.fullmatch(notice)]

    @property
    def clearings(self) -> list[dict[str, Any]]:
        return [data for data in self.sent if data["message"] == "clear_notification"]

    def button(self, title: str, revision: int = -1) -> str:
        """Return the id of a button of one of the notifications, by default the newest one."""
        button: str = next(
            one["action"] for one in self.notifications[revision]["data"]["actions"] if one["title"] == title
        )
        return button

    def press(self, button: str, context: Context | None = None) -> None:
        self.hass.bus.async_fire("mobile_app_notification_action", {"action": button}, context=context)

    def receive(self, data: dict[str, Any]) -> None:
        if self.away:
            raise HomeAssistantError("away")
        self.sent.append(data)

    def add_notify_action(self) -> None:
        """Register the phone and its local push channel, also after a removal."""
        if self.hass.config_entries.async_get_entry(self.entry.entry_id) is None:
            self.entry.add_to_hass(self.hass)
        webhook_id = self.entry.data["webhook_id"]
        channel = PushChannel(self.hass, webhook_id, False, self.receive, lambda: None)
        self.hass.data["mobile_app"]["push_channel"][webhook_id] = channel

    def remove(self) -> None:
        """Remove the registration and the push channel in the same way as Home Assistant."""
        del self.hass.data["mobile_app"]["push_channel"][self.entry.data["webhook_id"]]
        del self.hass.config_entries._entries[self.entry.entry_id]


def add_phone(hass: HomeAssistant, name: str) -> Phone:
    """Add a phone of ``mobile_app``: its registration, its device and its local push channel."""
    own_id = f"id of {name}"
    data = {
        "app_id": "io.homeassistant.companion.android",
        "app_version": "2026.11",
        "app_data": {"push_websocket_channel": True},
        "device_id": own_id,
        "device_name": name,
        "os_name": "Android",
        "webhook_id": f"webhook of {name}",
    }
    entry = MockConfigEntry(domain="mobile_app", data=data, title=name)
    entry.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id, identifiers={("mobile_app", own_id)}, name=name
    )
    hass.data.setdefault("mobile_app", {"push_channel": {}})
    phone = Phone(hass, entry, device.id)
    phone.add_notify_action()
    return phone


@dataclass
class Site:
    """One config entry of the integration."""

    hass: HomeAssistant
    freezer: FrozenDateTimeFactory
    entry: MockConfigEntry

    @property
    def alerts(self) -> Alerts:
        alerts: Alerts = self.entry.runtime_data.alerts
        return alerts

    def known(self, alert: str) -> Alert:
        known = self.alerts.get(alert)
        assert known
        return known

    @property
    def alive(self) -> Alert:
        """The only alive alert."""
        (alert,) = self.alerts.alive
        return alert

    async def set_up(self) -> None:
        await translation.async_load_integrations(self.hass, {DOMAIN})
        assert await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.settle()

    async def reload(self) -> None:
        assert await self.hass.config_entries.async_reload(self.entry.entry_id)
        await self.settle()

    async def crash_after(self, record: str | None, *, before_start: Callable[[], object] = lambda: None) -> None:
        """Restart with a record log that ends with the first ``record`` (None: with the complete log).

        A crash may leave any prefix of the file.
        """
        assert await self.hass.config_entries.async_unload(self.entry.entry_id)
        path = Path(self.hass.config.path(".storage", f"{DOMAIN}.{self.entry.entry_id}.memory"))
        if record is not None:
            content = path.read_bytes()
            ends = [end for _, end, payload in find_frames(content) if f'"type":"{record}"'.encode() in payload]
            path.write_bytes(content[: ends[0]])
        before_start()
        await self.set_up()

    async def settle(self) -> None:
        """Wait until nothing is being written or sent; actions of answers may still run."""
        quiet = 0
        while quiet < 3:
            await self.hass.async_block_till_done()
            await asyncio.sleep(0)
            quiet = 0 if self._is_busy else quiet + 1

    @property
    def _is_busy(self) -> bool:
        if self.entry.state is not ConfigEntryState.LOADED:
            return False
        journal, scheduler = self.alerts._journal, self.alerts._scheduler
        return bool(scheduler._sending) or bool(journal.record_log._writer)

    async def call(self, action: str, context: Context | None = None, /, **data: object) -> dict[str, Any]:
        response = await self.hass.services.async_call(
            DOMAIN, action, data, blocking=True, context=context, return_response=action == "alert"
        )
        return dict(response or {})

    async def raise_alert(self, message: str = "Water in the kitchen", /, **data: object) -> dict[str, Any]:
        response = await self.call("alert", **{"message": message, "group": "leak", **data})
        await self.settle()
        return response

    async def pass_time(self, step: timedelta = timedelta(seconds=10), **duration: float) -> None:
        """Advance the clock in steps."""
        left = timedelta(**duration)
        while left > timedelta():
            self.freezer.tick(min(step, left))
            left -= step
            async_fire_time_changed(self.hass)
            await self.settle()

    async def until(self, condition: Callable[[], object], rounds: int = 6000) -> None:
        """Wait for a condition that the background fulfils, for at least half a minute."""
        for _ in range(rounds):
            if condition():
                return
            await self.settle()
            # The loop's clock is frozen: only a thread can wait in real time for work in other threads.
            await asyncio.to_thread(threading.Event().wait, 0.005)
        raise AssertionError("the condition was not fulfilled in time")
