"""The scenario: five phases on a site that was set up as its owner does it, each with a fault of its own."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from process_cosmos_testbed.home_assistant.client import HomeAssistantUnreachableError
from process_cosmos_testbed.home_assistant.process import EXIT_TO_RESTART
from process_cosmos_testbed.processes import until
from process_cosmos_testbed.report import Progress

from .fixtures import SOON, DemoFixtures
from .judge import VALVE_OPENED
from .result import Phase, Result
from .site import DemoSite

CALLS = 20
"""How often one leak is called in phase 1."""

ROUND_TRIP = 0.3
"""Seconds of latency in each direction while replies are lost on purpose."""

SWALLOWING = 3.0
"""Seconds for which replies are swallowed in phase 5."""

DRAINED_WITHIN = 120.0
QUIET = 3.0
"""Seconds at the end in which nothing may happen any more."""


class LeakDemo:
    """Runs the phases on a site and records their figures in ``result``."""

    def __init__(self, site: DemoSite, result: Result, progress: Progress) -> None:
        """Run as many leaks in each phase as ``result`` names."""
        self._site = site
        self._observer = site.observer
        self._fixtures = DemoFixtures(site)
        self._result = result
        self._progress = progress
        self._leaks = result.leaks

    async def run(self) -> None:
        """Run everything; raise if a process or a step fails."""
        try:
            await self._phase("the site is set up through Home Assistant's own API", self._set_up)
            await self._phase("cloud up: leaks, and one leak called 20 times", self._cloud_up)
            await self._phase("cloud cut off: leaks", self._cloud_cut_off)
            await self._phase("gateway killed with requests in flight: leaks without it too", self._gateway_killed)
            await self._phase("Home Assistant restarted; answers given meanwhile", self._home_assistant_restarted)
            await self._phase("link back, replies swallowed for a while", self._link_back)
        finally:
            await self._fixtures.disconnect()

    async def _phase(self, name: str, phase: Callable[[], Awaitable[dict[str, Any]]]) -> None:
        number = len(self._result.phases)
        self._progress.say(f"phase {number}: {name}")
        begun = time.monotonic()
        figures = await phase()
        seconds = round(time.monotonic() - begun, 1)
        self._result.phases.append(Phase(number=number, name=name, seconds=seconds, figures=figures))

    async def _set_up(self) -> dict[str, Any]:
        await self._fixtures.set_up()
        return {}

    async def _leak(self, number: int, leak: Callable[[], Awaitable[float | None]]) -> list[float]:
        latencies = []
        for done in range(1, number + 1):
            latency = await leak()
            if latency is not None:
                latencies.append(latency)
            self._progress.count("leaks", done, number)
        return latencies

    async def _cloud_up(self) -> dict[str, Any]:
        fixtures = self._fixtures
        self._result.edge += await self._leak(self._leaks, fixtures.kitchen_leak)
        replies = [await fixtures.raise_alert(message="Water in the attic", group="attic") for _ in range(CALLS)]
        if len({reply["id"] for reply in replies}) != 1 or sum(reply["new"] for reply in replies) != 1:
            self._result.surprises.append("one leak called 20 times became more than one alert")
        attic = replies[0]["id"]
        await fixtures.next_opened("the attic")
        await fixtures.until_notified(attic)
        await fixtures.home.action("process_cosmos.resolve", {"group": "attic", "note": "dry again"})
        await fixtures.until_closed(attic)
        self._pump = await fixtures.ask_people("The pump stands still", "pump_restarts", "Restart it")
        self._neighbour = await fixtures.ask_people("Nobody is at home", "neighbour_called", "Call the neighbour")
        fixtures.expected.calls[attic] = CALLS
        fixtures.expected.other_alerts = 3
        await self._until_arrived()
        return {"leaks": self._leaks, "calls of one leak": CALLS}

    async def _cloud_cut_off(self) -> dict[str, Any]:
        self._site.to_cloud.blackhole()
        self._result.edge_offline += await self._leak(self._leaks, self._fixtures.kitchen_leak)
        waiting = self._result.queued_peak = await self._waiting()
        return {"leaks": self._leaks, "waiting for the cloud": waiting}

    async def _gateway_killed(self) -> dict[str, Any]:
        site, fixtures = self._site, self._fixtures
        before = down = self._leaks // 3
        self._result.edge_offline += await self._leak(before, fixtures.kitchen_leak)
        self._progress.say("a moment of slow link: events reach the cloud, their receipts are lost on the way back")
        await self._lose_receipts()
        await site.gateway.kill()
        # Noted after the kill, when no receipt can arrive any more.
        in_flight = self._observer.note_in_flight("cloud")
        site.to_cloud.blackhole()
        self._progress.say(f"gateway killed with {in_flight} events in flight; the cellar leaks without it")
        await self._leak(down, fixtures.cellar_leak)
        await site.start_gateway()
        [at_once] = await self._leak(1, fixtures.kitchen_leak)  # the integration is just reconnecting to the gateway
        self._result.edge_offline += await self._leak(self._leaks - before - down - 1, fixtures.kitchen_leak)
        return {
            "leaks": self._leaks,
            "without the gateway": down,
            "in flight at the kill": in_flight,
            "first leak after it": f"{at_once:.0f} ms",
        }

    async def _lose_receipts(self) -> None:
        """Let events through to the cloud and lose their receipts."""
        self._observer.mark()
        self._site.to_cloud.heal()
        self._site.to_cloud.latency(ROUND_TRIP)
        await self._observer.until_arrival("cloud")
        self._site.to_cloud.swallow_replies()

    async def _home_assistant_restarted(self) -> dict[str, Any]:
        site, fixtures = self._site, self._fixtures
        site.home_assistant.may_end = True
        with suppress(HomeAssistantUnreachableError):  # it may end before it replies
            await fixtures.home.action("homeassistant.restart")
        await fixtures.disconnect()
        code = await site.home_assistant.wait(SOON)
        if code != EXIT_TO_RESTART:
            raise site.home_assistant.failure(f"ended {code} instead of asking for a restart")
        self._progress.say("Home Assistant is down: the kitchen leaks, and the cloud answers about the pump")
        self._observer.mark()
        await site.kitchen.flood()
        await site.answer_at_the_cloud(self._pump, "Restart it", "operator at the cloud")
        await site.home_assistant.start()
        await fixtures.reconnect()
        await site.kitchen.until_closed()
        await self._observer.until_notified_since_mark(len(fixtures.phones))
        self._progress.say("Home Assistant is back, the cloud is not: a phone answers about the neighbour")
        await fixtures.answer_by_phone(self._neighbour, "Call the neighbour", times=2)  # it must count once
        await site.answer_at_the_cloud(self._neighbour, "Call the neighbour", "operator, too late")
        fixtures.expected.effects |= {"pump restarted": 1, "neighbour called": 1}
        await fixtures.until_state("counter.neighbour_called", "1")
        await site.kitchen.dry()
        await fixtures.until_open(1)  # the pump
        return {"leaks": 1, "answers": "1 by phone, 2 waiting at the cloud"}

    async def _link_back(self) -> dict[str, Any]:
        site, fixtures = self._site, self._fixtures
        begun = time.monotonic()
        await self._lose_receipts()
        await asyncio.sleep(SWALLOWING)
        site.to_cloud.heal()
        await self._until_arrived()
        self._result.drain_seconds = round(time.monotonic() - begun, 1)
        await fixtures.until_state("counter.pump_restarts", "1")
        self._progress.say("everything has arrived; the cloud answers a last leak, twice")
        await site.kitchen.leak()
        alert = await fixtures.next_opened("the last leak")
        await fixtures.until_notified(alert)
        await site.kitchen.until_closed()
        fixtures.expected.effects[VALVE_OPENED] = 1
        await self._until_arrived()
        for _ in range(2):
            await site.answer_at_the_cloud(alert, "Turn on again", "operator at the cloud")
        await fixtures.until_closed(alert)
        await site.kitchen.until_open()
        await site.kitchen.dry()
        await fixtures.until_open(0)
        await self._until_arrived()
        await asyncio.sleep(QUIET)
        # Only now: what was in flight at the kill arrives again when the link is back.
        self._result.in_flight_at_kill = self._observer.proven_in_flight()
        self._result.judgement = await self._observer.judge()
        return {"answers": "3 from the cloud", "drained": f"{self._result.drain_seconds} s"}

    async def _waiting(self) -> int:
        judgement = await self._observer.judge()
        return judgement.accepted - judgement.arrived

    async def _until_arrived(self) -> None:
        """Return when everything accepted has arrived; the final judgement names what never does."""

        async def arrived() -> bool:
            return await self._waiting() == 0

        with suppress(TimeoutError):
            await until(arrived, "everything at both destinations", DRAINED_WITHIN, every=0.3)
