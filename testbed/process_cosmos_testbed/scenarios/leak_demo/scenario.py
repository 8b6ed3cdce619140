"""The play: five phases on a site that was set up as its owner does it, each with the fault it is about."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient, HomeAssistantUnreachableError
from process_cosmos_testbed.home_assistant.onboarding import onboard, press
from process_cosmos_testbed.processes import ProcessFailedError

from .fixtures import CELLAR_SENSOR, CELLAR_VALVE, SOON, Stage
from .house import House, until
from .progress import Progress
from .result import Phase, Result
from .setup import PHONES, Entities, add_guard, add_integration, add_phones, add_webhook, find_entities

CALLS = 20
"""How often one leak is called in phase 1."""

ROUND_TRIP = 0.3
"""Seconds the link takes each way while a reply is to be caught on its way."""

SWALLOWING = 3.0
"""Seconds for which replies are swallowed in phase 5."""

DRAINED_WITHIN = 120.0
QUIET = 3.0
"""Seconds at the end in which nothing may happen any more."""

EFFECTS = {"counter.pump_restarts": "pump restarted", "counter.neighbour_called": "neighbour called"}
OPENED_AGAIN = "valve opened"
EXIT_TO_RESTART = 100
"""Home Assistant's exit code that asks for being started again."""


class Play:
    """Plays the phases on a house and notes what they came to."""

    def __init__(self, house: House, result: Result, progress: Progress, leaks: int) -> None:
        """Take the house, where figures go, where progress is shown, and the leaks of a phase."""
        self._house = house
        self._result = result
        self._progress = progress
        self._leaks = leaks
        self._token = ""
        self._connection = AsyncExitStack()
        self._stage: Stage
        self._kitchen: Entities
        self._expected: dict[str, Any] = {"effects": {}, "other_alerts": 0, "calls": {}}

    async def perform(self) -> None:
        """Play everything; raise if a part fails."""
        async with self._connection:
            await self._phase("the site is set up through Home Assistant's own API", self._set_up)
            await self._phase("cloud up: leaks, and one leak called 20 times", self._cloud_up)
            await self._phase("cloud cut off: leaks", self._cloud_cut_off)
            await self._phase("gateway killed with requests in flight: leaks without it too", self._gateway_killed)
            await self._phase("Home Assistant restarted; answers given meanwhile", self._home_assistant_restarted)
            await self._phase("link back, replies swallowed for a while", self._link_back)

    async def _phase(self, name: str, play: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        number = len(self._result.phases)
        self._progress.say(f"phase {number}: {name}")
        begun = time.monotonic()
        figures = await play()
        seconds = round(time.monotonic() - begun, 1)
        self._result.phases.append(Phase(number=number, name=name, seconds=seconds, figures=figures))

    async def _set_up(self) -> dict[str, Any]:
        house = self._house
        self._token = await onboard(house.url)
        async with HomeAssistantClient(house.url, self._token) as home:
            await home.until_running()
            phones = await add_phones(home, house)
            await house.ask(
                "watch_home",
                url=house.url,
                token=self._token,
                sensors=[CELLAR_SENSOR],
                closings={"counter.cellar_valve_closings": CELLAR_VALVE},
                effects=EFFECTS,
            )
            entry = await add_integration(home, house, phones)
            await find_entities(home)
            await add_webhook(home, entry, house.webhook_url)
            self._kitchen = await find_entities(home)
            await house.ask("begin")
            await add_guard(home, "leak_guard_kitchen", self._kitchen.sensor, self._kitchen.valve)
            await add_guard(home, "leak_guard_cellar", CELLAR_SENSOR, CELLAR_VALVE)
        self._phones = phones
        await self._connect()
        return {}

    async def _connect(self) -> None:
        """Follow Home Assistant, in this process and in the ledger's."""
        home = await self._connection.enter_async_context(HomeAssistantClient(self._house.url, self._token))
        await home.until_running()
        self._stage = Stage(self._house, home, self._phones)
        await self._stage.listen()
        await self._house.ask("watching_home")
        await self._expect()

    async def _expect(self, **effects: int) -> None:
        self._expected["effects"] |= effects
        await self._house.ask(
            "expect",
            phones=PHONES,
            destinations=["cloud", "webhook"],
            guards=[
                {"sensor": "wot/leak-kitchen", "valve": "wot/valve-kitchen"},
                {"sensor": CELLAR_SENSOR, "valve": CELLAR_VALVE},
            ],
            **self._expected,
        )

    async def _leak(self, number: int, play: Callable[[], Awaitable[float | None]]) -> list[float]:
        latencies = []
        for done in range(1, number + 1):
            latency = await play()
            if latency is not None:
                latencies.append(latency)
            self._progress.count("leaks", done, number)
        return latencies

    async def _cloud_up(self) -> dict[str, Any]:
        stage = self._stage
        self._result.edge += await self._leak(self._leaks, stage.kitchen_leak)
        replies = [await stage.raise_alert(message="Water in the attic", group="attic") for _ in range(CALLS)]
        if len({reply["id"] for reply in replies}) != 1 or sum(reply["new"] for reply in replies) != 1:
            self._result.surprises.append("one leak called 20 times became more than one alert")
        attic = replies[0]["id"]
        self._expected["calls"] = {attic: CALLS}
        await stage.next_opened("the attic")
        await stage.until_rung(attic)
        await stage.home.action("process_cosmos.resolve", {"group": "attic", "note": "dry again"})
        await stage.until_over(attic)
        self._pump = await stage.ask_people("The pump stands still", "pump_restarts", "Restart it")
        self._neighbour = await stage.ask_people("Nobody is at home", "neighbour_called", "Call the neighbour")
        self._expected["other_alerts"] = 3
        await self._expect()
        await self._until_arrived()
        return {"leaks": self._leaks, "calls of one leak": CALLS}

    async def _cloud_cut_off(self) -> dict[str, Any]:
        await self._house.fault("blackhole")
        self._result.edge_offline += await self._leak(self._leaks, self._stage.kitchen_leak)
        waiting = await self._waiting()
        self._result.queued_peak = waiting
        return {"leaks": self._leaks, "waiting for the cloud": waiting}

    async def _gateway_killed(self) -> dict[str, Any]:
        house, stage = self._house, self._stage
        before = self._leaks // 3
        down = self._leaks // 3
        self._result.edge_offline += await self._leak(before, stage.kitchen_leak)
        self._progress.say("a moment of slow link: events reach the cloud, their receipts are caught on the way back")
        await self._catch_receipts()
        await house.gateway.kill()
        in_flight = await house.ask("note_in_flight", destination="cloud")
        await house.fault("blackhole")
        self._progress.say(f"gateway killed with {in_flight} events in flight; the cellar leaks without it")
        await self._leak(down, stage.cellar_leak)
        await house.start_gateway()
        [at_once] = await self._leak(1, stage.kitchen_leak)  # the integration is just coming back to the gateway
        self._result.edge_offline += await self._leak(self._leaks - before - down - 1, stage.kitchen_leak)
        return {
            "leaks": self._leaks,
            "without the gateway": down,
            "in flight at the kill": in_flight,
            "first leak after it": f"{at_once:.0f} ms",
        }

    async def _catch_receipts(self) -> None:
        """Let one batch through to the cloud and lose its receipts."""
        await self._house.ask("mark")
        await self._house.fault("heal")
        await self._house.fault("latency", str(ROUND_TRIP))
        if not await self._house.ask("until_arrival", destination="cloud"):
            raise self._house.gateway.failure("sent nothing to the cloud although the link was there")
        await self._house.fault("swallow_replies")

    async def _home_assistant_restarted(self) -> dict[str, Any]:
        house = self._house
        with suppress(HomeAssistantUnreachableError):
            await self._stage.home.action("homeassistant.restart")
        await self._connection.aclose()
        code = await house.home_assistant.wait(SOON)
        if code != EXIT_TO_RESTART:
            raise house.home_assistant.failure(f"ended {code} instead of asking for a restart")
        self._progress.say("Home Assistant is down: the kitchen leaks, and the cloud answers about the pump")
        await house.ask("mark")
        await house.device("kitchen", "flood")
        await house.answer_at_the_cloud(self._pump, "Restart it", "operator at the cloud")
        await house.start_home_assistant()
        await self._connect()
        await house.device("kitchen", "until_closed")
        stage = self._stage
        if not await house.ask("rung_since_mark", phones=len(PHONES)):
            raise house.home_assistant.failure("did not ring for the leak that began while it was down")
        self._progress.say("Home Assistant is back, the cloud is not: a phone answers about the neighbour")
        await self._answer_by_phone(self._neighbour, "Call the neighbour")
        await house.answer_at_the_cloud(self._neighbour, "Call the neighbour", "operator, too late")
        await self._expect(**{"pump restarted": 1, "neighbour called": 1})
        await stage.until_state("counter.neighbour_called", "1")
        await house.device("kitchen", "dry")
        await stage.until_open(1)  # the pump
        return {"leaks": 1, "answers": "1 by phone, 2 waiting at the cloud"}

    async def _answer_by_phone(self, alert: str, answer: str) -> None:
        phone = self._phones[0]
        button = await self._house.ask("button", alert=alert, phone=phone.name, title=answer)
        await press(self._stage.home, phone, button)
        await press(self._stage.home, phone, button)  # a finger that trembles: it counts once
        await self._stage.until_over(alert)

    async def _link_back(self) -> dict[str, Any]:
        house, stage = self._house, self._stage
        begun = time.monotonic()
        await self._catch_receipts()
        await asyncio.sleep(SWALLOWING)
        await house.fault("heal")
        await self._until_arrived()
        self._result.drain_seconds = round(time.monotonic() - begun, 1)
        await stage.until_state("counter.pump_restarts", "1")
        self._progress.say("everything has arrived; the cloud answers a last leak, twice")
        await house.device("kitchen", "leak")
        alert = await stage.next_opened("the last leak")
        await stage.until_rung(alert)
        await house.device("kitchen", "until_closed")
        await self._expect(**{OPENED_AGAIN: 1})
        await self._until_arrived()
        for _ in range(2):
            await house.answer_at_the_cloud(alert, "Turn on again", "operator at the cloud")
        await stage.until_over(alert)
        await house.device("kitchen", "until_open")
        await house.device("kitchen", "dry")
        await stage.until_open(0)
        await self._until_arrived()
        await asyncio.sleep(QUIET)
        self._result.in_flight_at_kill = await house.ask("proven_in_flight")
        self._result.judgement = await house.ask("judge")
        return {"answers": "3 from the cloud", "drained": f"{self._result.drain_seconds} s"}

    async def _waiting(self) -> int:
        judgement = await self._house.ask("judge")
        return int(judgement["accepted"] - judgement["arrived"])

    async def _until_arrived(self) -> None:
        """Return when everything accepted has arrived; what never does is for the final judgement to say."""

        async def arrived() -> bool | None:
            return await self._waiting() == 0 or None

        with suppress(ProcessFailedError):
            await until(arrived, "everything at both destinations", DRAINED_WITHIN, every=0.3)
