"""What the play acts with: leaks in kitchen and cellar, questions to people, and what Home Assistant says of them."""

import asyncio
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.onboarding import Phone
from process_cosmos_testbed.processes import ProcessFailedError

from .house import House

SOON = 30.0
"""Seconds within which Home Assistant must have done what takes it milliseconds."""

OPEN_ALERTS = "sensor.process_cosmos_open_alerts"
BREATH = 0.05
"""Seconds before each leak of the kitchen: what the one before left to do is not measured with it."""

CELLAR_SENSOR = "binary_sensor.cellar_floor"
CELLAR_VALVE = "switch.cellar_valve"
CELLAR_WATER = "input_boolean.cellar_water"
CELLAR_OPEN = "input_boolean.cellar_valve_open"


class Stage:
    """One connection to Home Assistant, and everything an actor can do in the house."""

    def __init__(self, house: House, home: HomeAssistantClient, phones: list[Phone]) -> None:
        """Take the house, its Home Assistant, and the phones."""
        self.house = house
        self.home = home
        self.phones = phones
        self.opened: asyncio.Queue[str] = asyncio.Queue()
        self._closed: dict[str, asyncio.Event] = {}

    async def listen(self) -> None:
        """Hear of alerts from now on."""
        opened = {"trigger": "process_cosmos.alert_opened"}
        await self.home.subscribe(
            lambda event: self.opened.put_nowait(_alert(event)), "subscribe_trigger", trigger=opened
        )
        for state in ("resolved", "answered"):
            trigger = {"trigger": f"process_cosmos.alert_{state}"}
            await self.home.subscribe(
                lambda event: self._over(_alert(event)).set(), "subscribe_trigger", trigger=trigger
            )

    async def kitchen_leak(self) -> float:
        """Play one leak from wet to dry; return milliseconds from the sensor's message to the command at the valve."""
        await asyncio.sleep(BREATH)
        milliseconds = float(await self.house.device("kitchen", "leak"))
        alert = await self.next_opened("a leak in the kitchen")
        await self.until_rung(alert)
        await self.house.device("kitchen", "until_closed")
        await self.house.device("kitchen", "dry")
        await self.until_over(alert)
        return milliseconds

    async def cellar_leak(self) -> None:
        """Play one leak in the cellar, whose sensor and valve are Home Assistant's own and need no gateway."""
        await self.home.action("input_boolean.turn_on", target={"entity_id": CELLAR_WATER})
        alert = await self.next_opened("a leak in the cellar")
        await self.until_rung(alert)
        await self.until_state(CELLAR_VALVE, "off")
        await self.home.action("input_boolean.turn_on", target={"entity_id": CELLAR_OPEN})
        await self.home.action("input_boolean.turn_off", target={"entity_id": CELLAR_WATER})
        await self.until_over(alert)

    async def ask_people(self, message: str, counter: str, answer: str) -> str:
        """Escalate a question whose ``answer`` counts up ``counter``; return the alert."""
        increment = {"action": "counter.increment", "target": {"entity_id": f"counter.{counter}"}}
        answers = [{"name": answer, "actions": [increment]}, {"name": "Leave it"}]
        raised = await self.raise_alert(message=message, answers=answers)
        await self.next_opened(message)
        await self.until_rung(raised["id"])
        return str(raised["id"])

    async def raise_alert(self, **data: Any) -> dict[str, Any]:  # noqa: ANN401 - the action's own fields
        """Call the action and return its response: what it returns is on disk."""
        raised: dict[str, Any] = await self.home.action("process_cosmos.alert", data, reply=True)
        return raised

    async def next_opened(self, what: str) -> str:
        """Return the alert that opens next."""
        try:
            async with asyncio.timeout(SOON):
                return await self.opened.get()
        except TimeoutError as error:
            raise self.house.home_assistant.failure(f"opened no alert for {what}") from error

    async def until_open(self, number: int) -> None:
        """Return when ``number`` alerts are open; forget that others opened meanwhile."""
        await self.until_state(OPEN_ALERTS, str(number))
        while not self.opened.empty():
            self.opened.get_nowait()

    async def until_over(self, alert: str) -> None:
        """Return when the alert is answered or resolved."""
        try:
            async with asyncio.timeout(SOON):
                await self._over(alert).wait()
        except TimeoutError as error:
            raise self.house.home_assistant.failure(f"did not close alert {alert}") from error

    async def until_rung(self, alert: str) -> None:
        """Return when every phone has rung."""
        if not await self.house.ask("rings", alert=alert, phones=len(self.phones)):
            raise self.house.home_assistant.failure(f"did not ring the phones for {alert}")

    async def until_state(self, entity: str, *states: str) -> None:
        """Return when an entity has one of ``states``."""
        try:
            async with asyncio.timeout(SOON):
                while True:
                    if (state := await self.home.state(entity)) in states:
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError as error:
            raise ProcessFailedError(f"{entity} is {state}, not {' or '.join(states)}") from error

    def _over(self, alert: str) -> asyncio.Event:
        return self._closed.setdefault(alert, asyncio.Event())


def _alert(event: dict[str, Any]) -> str:
    return str(event["variables"]["trigger"]["alert"])
