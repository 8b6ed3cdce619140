"""A site for the tests: phones that keep what they are sent, and a clock that can be shifted."""

import asyncio
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import Context, HomeAssistant, ServiceCall
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers import translation
from homeassistant.util import slugify
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_fire_time_changed

from custom_components.process_cosmos.const import DOMAIN
from custom_components.process_cosmos.escalations.engine import Escalations
from custom_components.process_cosmos.escalations.model import Escalation
from custom_components.process_cosmos.memory import _frames

SENTENCES = {
    code: re.compile(re.sub(r"\\\{\w+\\\}", ".*", re.escape(exception["message"].rstrip("."))))
    for code, exception in json.loads(
        Path("custom_components/process_cosmos/translations/en.json").read_text(encoding="utf-8")
    )["exceptions"].items()
}


@dataclass
class Phone:
    """A phone of the mobile app: ``sent`` has what its notify action got; ``away`` makes the action fail."""

    hass: HomeAssistant
    device_id: str
    action: str
    sent: list[dict[str, Any]] = field(default_factory=list)
    away: bool = False

    @property
    def rings(self) -> list[dict[str, Any]]:
        """What rang, without notices and without what takes a notification away."""
        return [data for data in self.sent if "actions" in data.get("data", {})]

    @property
    def notices(self) -> list[str]:
        return [data["message"] for data in self.sent if data not in self.rings and data not in self.clearings]

    @property
    def refusals(self) -> list[str]:
        """The codes of the refusals among the notices."""
        return [code for notice in self.notices for code, sentence in SENTENCES.items() if sentence.fullmatch(notice)]

    @property
    def clearings(self) -> list[dict[str, Any]]:
        return [data for data in self.sent if data["message"] == "clear_notification"]

    def button(self, title: str, ring: int = -1) -> str:
        """The id of a button of one of the notifications, the newest if not said."""
        button: str = next(one["action"] for one in self.rings[ring]["data"]["actions"] if one["title"] == title)
        return button

    def press(self, button: str, context: Context | None = None) -> None:
        self.hass.bus.async_fire("mobile_app_notification_action", {"action": button}, context=context)

    async def notify(self, call: ServiceCall) -> None:
        if self.away:
            raise HomeAssistantError("away")
        self.sent.append(dict(call.data))

    def add_notify_action(self) -> None:
        self.hass.services.async_register("notify", self.action, self.notify)
        self.hass.data["mobile_app"]["notify"].registered_targets[self.action] = self.device_id

    def remove(self) -> None:
        """As Home Assistant does when its entry goes."""
        self.hass.services.async_remove("notify", self.action)
        del self.hass.data["mobile_app"]["notify"].registered_targets[self.action]


def add_phone(hass: HomeAssistant, name: str) -> Phone:
    """A device of a mobile_app entry, its notify action, and the mobile app's own notes of both."""
    entry = MockConfigEntry(domain="mobile_app", data={"device_name": name}, title=name)
    entry.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id, identifiers={("mobile_app", name)}, name=name
    )
    notes = hass.data.setdefault("mobile_app", {"devices": {}, "notify": SimpleNamespace(registered_targets={})})
    phone = Phone(hass, device.id, slugify(f"mobile_app_{name}"))
    notes["devices"][device.id] = device
    phone.add_notify_action()
    return phone


@dataclass
class Site:
    """One entry of the integration."""

    hass: HomeAssistant
    freezer: FrozenDateTimeFactory
    entry: MockConfigEntry

    @property
    def escalations(self) -> Escalations:
        escalations: Escalations = self.entry.runtime_data.escalations
        return escalations

    def known(self, escalation: str) -> Escalation:
        known = self.escalations.get(escalation)
        assert known
        return known

    @property
    def alive(self) -> Escalation:
        """The one alive escalation."""
        (escalation,) = self.escalations.alive
        return escalation

    async def set_up(self) -> None:
        await translation.async_load_integrations(self.hass, {DOMAIN})
        assert await self.hass.config_entries.async_setup(self.entry.entry_id)
        await self.settle()

    async def reload(self) -> None:
        assert await self.hass.config_entries.async_reload(self.entry.entry_id)
        await self.settle()

    async def crash_after(self, record: str | None, *, before_start: Callable[[], object] = lambda: None) -> None:
        """Start again with the memory as it was when ``record`` had reached the disk and nothing after it (None: all).

        Any prefix of the file is what a crash may have left.
        """
        assert await self.hass.config_entries.async_unload(self.entry.entry_id)
        path = Path(self.hass.config.path(".storage", f"{DOMAIN}.{self.entry.entry_id}.memory"))
        if record is not None:
            content = path.read_bytes()
            ends = [end for _, end, payload in _frames(content) if f'"type":"{record}"'.encode() in payload]
            path.write_bytes(content[: ends[0]])
        before_start()
        await self.set_up()

    async def settle(self) -> None:
        """Wait until nothing is being written or told; an answer's actions may still run."""
        quiet = 0
        while quiet < 3:
            await self.hass.async_block_till_done()
            await asyncio.sleep(0)
            quiet = 0 if self._is_busy else quiet + 1

    @property
    def _is_busy(self) -> bool:
        if self.entry.state is not ConfigEntryState.LOADED:
            return False
        journal, rounds = self.escalations._journal, self.escalations._rounds
        return bool(rounds._telling_now) or bool(journal.memory._writer)

    async def call(self, action: str, context: Context | None = None, /, **data: object) -> dict[str, Any]:
        response = await self.hass.services.async_call(
            DOMAIN, action, data, blocking=True, context=context, return_response=action == "escalate"
        )
        return dict(response or {})

    async def escalate(self, message: str = "Water in the kitchen", /, **data: object) -> dict[str, Any]:
        response = await self.call("escalate", **{"message": message, "group": "leak", **data})
        await self.settle()
        return response

    async def pass_time(self, step: timedelta = timedelta(seconds=10), **duration: float) -> None:
        """Let the clock run, in steps."""
        left = timedelta(**duration)
        while left > timedelta():
            self.freezer.tick(min(step, left))
            left -= step
            async_fire_time_changed(self.hass)
            await self.settle()

    async def until(self, condition: Callable[[], object], rounds: int = 200) -> None:
        """Wait for something that happens in the background."""
        for _ in range(rounds):
            if condition():
                return
            await self.settle()
            # The loop's clock stands still: only a thread can let real time pass for what runs in other threads.
            await asyncio.to_thread(threading.Event().wait, 0.005)
        raise AssertionError("it did not happen")
