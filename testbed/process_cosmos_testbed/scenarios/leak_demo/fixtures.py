"""The steps that scenarios are made of: leaks in kitchen and cellar, questions to people, states to wait for."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.onboarding import Phone, onboard, press
from process_cosmos_testbed.processes import until
from process_cosmos_testbed.testbed import CLOUD, WEBHOOK

from .cellar import CELLAR_OPEN, CELLAR_SENSOR, CELLAR_VALVE, CELLAR_WATER
from .home_assistant_watch import HomeAssistantWatch
from .setup import PHONES, add_guard, add_integration, add_phones, add_webhook, find_entities
from .site import DemoSite

SOON = 30.0
"""Seconds within which Home Assistant must have done what usually takes milliseconds."""

OPEN_ALERTS = "sensor.process_cosmos_open_alerts"
_PAUSE = 0.05
"""Seconds before each leak in the kitchen, so that work left by the one before is not measured with it."""


class DemoFixtures:
    """A site that is set up, a connection to its Home Assistant, and all steps of a scenario."""

    def __init__(self, site: DemoSite) -> None:
        """Use a started site; ``set_up`` comes first."""
        self.site = site
        self.home: HomeAssistantClient
        self.phones: list[Phone]
        self.entry = ""
        self.expected = site.observer.expected
        self._token = ""
        self._connection = AsyncExitStack()
        self._watch: HomeAssistantWatch

    async def set_up(self, *, with_kitchen: bool = True) -> None:
        """Set the site up as its owner does: two phones, destinations, an automation that guards each room."""
        site, observer = self.site, self.site.observer
        self._token = await onboard(site.home_assistant.url)
        await self.connect()
        home = self.home
        self.phones = await add_phones(home, site)
        self._watch = HomeAssistantWatch(site.home_assistant.url, self._token, observer.write)
        site.background.add("watch of Home Assistant", self._watch.run())
        await self._watch.watching.wait()
        self.entry = await add_integration(home, site, self.phones)
        await find_entities(home)
        await add_webhook(home, self.entry, site.receiver.url)
        sensor, valve = await find_entities(home)
        observer.begin()
        self.expected.phones, self.expected.destinations = PHONES, (CLOUD, WEBHOOK)
        if with_kitchen:
            await add_guard(home, "leak_guard_kitchen", sensor, valve)
            self.expected.guards["wot/leak-kitchen"] = "wot/valve-kitchen"
        await add_guard(home, "leak_guard_cellar", CELLAR_SENSOR, CELLAR_VALVE)
        self.expected.guards[CELLAR_SENSOR] = CELLAR_VALVE

    async def connect(self) -> None:
        """Connect to Home Assistant."""
        client = HomeAssistantClient(self.site.home_assistant.url, self._token)
        self.home = await self._connection.enter_async_context(client)
        await self.home.until_running()

    async def reconnect(self) -> None:
        """Connect to a restarted Home Assistant, and return when it is observed again."""
        await self.connect()
        await self._watch.watching.wait()

    async def disconnect(self) -> None:
        """Close the connection to Home Assistant."""
        await self._connection.aclose()

    async def kitchen_leak(self) -> float:
        """Run one leak from wet to dry; return the milliseconds from the sensor's report to the valve's command."""
        await asyncio.sleep(_PAUSE)
        milliseconds = await self.site.kitchen.leak()
        alert = await self.next_opened("a leak in the kitchen")
        await self.until_notified(alert)
        await self.site.kitchen.until_closed()
        await self.site.kitchen.dry()
        await self.until_closed(alert)
        return milliseconds

    async def cellar_leak(self) -> None:
        """Run one leak in the cellar, whose sensor and valve are Home Assistant's own and need no gateway."""
        await self.home.action("input_boolean.turn_on", target={"entity_id": CELLAR_WATER})
        alert = await self.next_opened("a leak in the cellar")
        await self.until_notified(alert)
        await self.until_state(CELLAR_VALVE, "off")
        await self.home.action("input_boolean.turn_on", target={"entity_id": CELLAR_OPEN})
        await self.home.action("input_boolean.turn_off", target={"entity_id": CELLAR_WATER})
        await self.until_closed(alert)

    async def ask_people(self, message: str, counter: str, answer: str) -> str:
        """Open an alert whose ``answer`` increments ``counter``; return the alert."""
        increment = {"action": "counter.increment", "target": {"entity_id": f"counter.{counter}"}}
        answers = [{"name": answer, "actions": [increment]}, {"name": "Leave it"}]
        raised = await self.raise_alert(message=message, answers=answers)
        await self.next_opened(message)
        await self.until_notified(raised["id"])
        return str(raised["id"])

    async def answer_by_phone(self, alert: str, answer: str, times: int = 1) -> None:
        """Press the button ``answer`` on the first phone ``times`` times; return when the alert is closed."""
        phone = self.phones[0]
        button = self.site.observer.button(alert, phone.name, answer)
        for _ in range(times):
            await press(self.home, phone, button)
        await self.until_closed(alert)

    async def raise_alert(self, **data: Any) -> dict[str, Any]:  # noqa: ANN401 - the action's own fields
        """Call the action and return its response: the alert is durable then."""
        raised: dict[str, Any] = await self.home.action("process_cosmos.alert", data, reply=True)
        return raised

    async def next_opened(self, what: str) -> str:
        """Return the alert that opens next."""
        opened = self._watch.opened
        await self._soon(lambda: not opened.empty(), f"opened no alert for {what}")
        return opened.get_nowait()

    async def until_open(self, number: int) -> None:
        """Return when ``number`` alerts are open; forget that others opened meanwhile."""
        await self.until_state(OPEN_ALERTS, str(number))
        while not self._watch.opened.empty():
            self._watch.opened.get_nowait()

    async def until_closed(self, alert: str) -> None:
        """Return when the alert is answered or resolved."""
        await self._soon(lambda: alert in self._watch.closed, f"did not close alert {alert}")

    async def _soon(self, condition: Callable[[], bool], sentence: str) -> None:
        try:
            await until(condition, "reaction", SOON)
        except TimeoutError as error:
            raise self.site.home_assistant.failure(sentence) from error

    async def until_notified(self, alert: str) -> None:
        """Return when every phone was notified."""
        await self.site.observer.until_notified(len(self.phones), alert)

    async def until_state(self, entity: str, state: str) -> None:
        """Return when an entity has ``state``."""

        async def is_reached() -> bool:
            return await self.home.state(entity) == state

        await until(is_reached, f"{entity} that is {state}", SOON)
