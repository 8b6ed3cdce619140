"""The site that faults are injected into: its producers, its destinations, and the ledger beside it."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sized
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from process_cosmos_gateway.contract.destinations import EventKind, Link, Priority, SendAgain, SetCloud, SetWebhook
from process_cosmos_gateway.contract.pairing import parse_line
from process_cosmos_gateway.destinations.enrolment import enrol
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_testbed.arrivals import arrivals_of
from process_cosmos_testbed.event_producer import EventProducer
from process_cosmos_testbed.fake_home_assistant import FakeHomeAssistant
from process_cosmos_testbed.interceptor import Interceptor, intercepting
from process_cosmos_testbed.judge import Judgement, judge
from process_cosmos_testbed.ledger import Item, Ledger
from process_cosmos_testbed.processes import LOCAL, TestbedError, until
from process_cosmos_testbed.services import ControlledGateway, toml
from process_cosmos_testbed.testbed import CLOUD, WEBHOOK, Testbed
from process_cosmos_testbed.virtual_devices.sensors import NumberedSensor

type _Send = Callable[[], Awaitable[None] | None]

KINDS = tuple(EventKind)
BOUND = 1.5
"""Seconds before a cut in which acknowledged readings may be lost: the linger, and their way to the gateway."""

_QUIET = 0.3
_BACKOFF = 31.0  # a second more than the gateway's longest delay between two tries
_WAITS = ((2.0, _BACKOFF), (2.0, _BACKOFF), (2.0, 901.0), (4.0, _BACKOFF), (8.0, _BACKOFF), (16.0, 0.0))
"""Seconds without an arrival or a receipt, and seconds that are skipped then to end backoffs."""
_TRIES_BETWEEN_SKIPS = 20
_BURST = 60
_KINDS_OF_GREETING = 2
_SOON = 40.0


class FaultError(TestbedError):
    """A fault did not take effect, or the site did not reach the state before it: there is nothing to judge."""


class Site(Testbed[ControlledGateway]):
    """Everything a fault acts on; it runs inside ``started``. ``proof`` counts how often each effect was observed."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, disk: bool = False) -> None:
        """Keep everything in ``folder``; ``disk``: SQLite's files pass through the failing disk."""
        super().__init__(folder, ControlledGateway(folder), self._arrive, settings)
        self.gateway.disk = disk
        self.random = Random()  # noqa: S311 - a seed makes a run repeatable
        self.ledger = Ledger(BOUND)
        self.home_assistant = FakeHomeAssistant(self.gateway.url, self.ledger)
        self._burst = self.home_assistant.new_alert()
        self.sensors: list[NumberedSensor] = []
        self._producers: list[EventProducer] = []
        self.destinations: tuple[str, ...] = (CLOUD, WEBHOOK)
        self.proof: dict[str, int] = {}
        self.figures: dict[str, float] = {}
        self.exceeded: list[str] = []
        """The figures that exceeded their bound, with both."""
        self._dropped: Mapping[Priority, int] = {}
        self._connections = 0
        self._stack: AsyncExitStack

    def _arrive(self, destination: str, event: Mapping[str, Any], fresh: bool) -> None:  # noqa: FBT001 - a callback
        # The cloud endpoint's ledger is read with a delay, so its arrivals have no moment.
        now = time.monotonic() if destination == WEBHOOK else None
        for arrival in arrivals_of(event, fresh=fresh):
            self.ledger.arrive(destination, arrival, now)

    # Proof that a fault took effect

    def prove(self, what: str, count: int) -> None:
        """Record how often ``what`` took effect; the fault is judged only if everything recorded did."""
        self.proof[what] = self.proof.get(what, 0) + count

    async def until_struck(self, what: str, count_fn: Callable[[], int], *, before: int = 0, skip: float = 0.0) -> None:
        """Return when ``count_fn`` exceeds ``before``, and record it; raise ``FaultError`` if it does not.

        ``skip``: seconds that are skipped repeatedly meanwhile, to end backoffs.
        """

        async def struck() -> int:
            return max(0, count_fn() - before)

        self.prove(what, await self._until_skipping(struck, f"the fault did not strike: {what}", skip))

    async def _until_skipping[T](self, probe: Callable[[], Awaitable[T]], sentence: str, skip: float) -> T:
        """Return the first true answer of ``probe``; raise ``FaultError`` with ``sentence`` if there is none."""
        try:
            async with asyncio.timeout(_SOON):
                while True:
                    for _ in range(_TRIES_BETWEEN_SKIPS):
                        if answer := await probe():
                            return answer
                        await asyncio.sleep(0.05)
                    if skip:
                        await self.skip(skip)
        except TimeoutError as error:
            raise FaultError(sentence) from error

    async def skip(self, seconds: float) -> None:
        """Skip ``seconds`` of the gateway's time."""
        await self.gateway.command_machine("time", "skip", seconds)

    # Processes

    async def kill_gateway(self) -> None:
        """Kill the gateway during a burst of urgent events, and record the moment as a cut."""
        begun = self.home_assistant.receipts
        for _ in range(_BURST):
            self.home_assistant.raise_alert(self._burst)
        # From the first receipt on, some events of the burst are durable and others are in flight.
        await until(lambda: self.home_assistant.receipts > begun, "a receipt", _SOON, every=0.002)
        await asyncio.sleep(self.random.uniform(0.0, 0.01))
        # Counted before the kill: receipts that the socket already has are still read after it.
        unsure = self.home_assistant.unconfirmed
        code = await self.gateway.kill()
        self.ledger.cuts.append(time.monotonic())
        self.prove("kill -9", code == -signal.SIGKILL)
        self.prove("urgent events in flight at the kill", unsure)

    async def revive(self) -> None:
        """Start the gateway again if it has exited, as its supervisor does."""
        if not self.gateway.running:
            self.figures["started_again"] = self.figures.get("started_again", 0) + 1
            await self.start_gateway()

    async def cut_power(self, kept: str) -> None:
        """Cut the power of the gateway's machine; ``kept`` of the unsynced writes survive (``FailingDisk.cut``)."""
        # Set before the command, which ends the process: its watch would report that as a failure.
        self.gateway.may_end = True
        unsynced = await self.gateway.command_machine("disk", "cut", kept, self.random.randrange(1 << 30))
        await self.gateway.wait(10)
        self.ledger.cuts.append(time.monotonic())
        self.prove("power cuts", 1)
        self.prove("unsynced writes at the cuts", unsynced)

    @asynccontextmanager
    async def copied_gateway(self, data: Path) -> AsyncIterator[None]:
        """Run another gateway inside the block on ``data``, a copy of this one's; it has no broker."""
        copy = ControlledGateway(self.folder, options=toml(self._settings), name=data.name)
        try:
            await copy.start()
            yield
        finally:
            await copy.stop()

    # Destinations

    async def set_webhook(self, url: str | None = None, kinds: tuple[EventKind, ...] = KINDS) -> None:
        """Configure the webhook: at ``url``, by default behind its proxy."""
        url = url or f"http://{LOCAL}:{self.to_webhook.port}/hook"
        await self.home_assistant.request(SetWebhook(id="webhook", name=WEBHOOK, url=url, kinds=kinds))

    async def set_cloud(self) -> None:
        """Enrol at the cloud endpoint, through its proxy."""
        code = await self._code(self.to_cloud.port)
        await self.home_assistant.request(SetCloud(id="cloud", name=CLOUD, code=code, kinds=KINDS))

    async def _code(self, port: int) -> str:
        return await self.cloud.one_time_code(port, "--site", self.home_assistant.site)

    @asynccontextmanager
    async def intercepted(self) -> AsyncIterator[Interceptor]:
        """Put an interceptor between gateway and cloud endpoint inside the block.

        It enrols for the site, which revokes the gateway's own certificate: the gateway enrols again at the end.
        """
        credentials = await enrol(parse_line(await self._code(self.cloud.port)), self.home_assistant.site)
        async with intercepting(self.cloud.data, self.cloud.url, credentials) as interceptor:
            self.to_cloud.redirect(interceptor.port)
            yield interceptor
        self.to_cloud.redirect(self.cloud.port)
        await self.set_cloud()

    async def send_again(self) -> None:
        """Send all rejected events again, as a person does; return when the gateway reports none any more."""
        await self.home_assistant.request(SendAgain(id="send-again"))
        await until(lambda: self.rejected == 0, "status without rejected events", _SOON)

    @property
    def rejected(self) -> int:
        """The number of events that destinations have rejected, as the gateway reports it."""
        return 0 if self.home_assistant.status is None else self.home_assistant.status.rejected

    def link(self, name: str) -> Link | None:
        """Return the state of a link, as the gateway reports it."""
        links = () if self.home_assistant.status is None else self.home_assistant.status.links
        return next((link for link in links if link.name == name), None)

    def reason(self, name: str) -> str | None:
        """Return the reason for which a link is down, as the gateway reports it."""
        link = self.link(name)
        return None if link is None else link.reason

    async def until_reason(self, name: str, reason: str) -> None:
        """Return when the gateway reports a link as down for ``reason``, which proves the fault."""
        await until(lambda: self.reason(name) == reason, f"link that is {reason}", _SOON)
        self.prove(f"{name}: {reason}", 1)

    # Producers

    @asynccontextmanager
    async def traffic(self, rate: float = 20.0, keys: int = 3) -> AsyncIterator[None]:
        """Let Home Assistant, a program and ``keys`` devices send ``rate`` items a second for each key and priority."""
        names = [self.home_assistant.new_alert() for _ in range(keys)]
        sensors = await self.add_sensors(keys)
        producer = await self._add_producer()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_repeat(producer.publish_all, 2 / rate))]
            send_fns: list[Callable[[], Awaitable[None] | None]] = [
                partial(self.home_assistant.raise_alert, name) for name in names
            ]
            send_fns += [each for sensor in sensors for each in (sensor.tick, sensor.measure)]
            tasks += [group.create_task(_repeat(send_fn, 1 / rate)) for send_fn in send_fns]
            try:
                await asyncio.sleep(0.3)
                yield
                await asyncio.sleep(0.3)
            finally:
                for task in tasks:
                    task.cancel()

    async def _add_producer(self) -> EventProducer:
        token = await self.gateway.run_command("token", f"program-{len(self._producers)}")
        producer = EventProducer(self.gateway.url, token, self.ledger)
        self.background.add("event producer", producer.run())
        self._producers.append(producer)
        return producer

    async def add_sensors(self, number: int) -> list[NumberedSensor]:
        """Add ``number`` new sensors; return when the gateway has received from each."""
        broker = BrokerOptions(host=LOCAL, port=self.broker.port)
        fresh = [NumberedSensor(broker, f"sensor-{len(self.sensors) + each}", self.ledger) for each in range(number)]
        for sensor in fresh:
            await self._stack.enter_async_context(sensor)
            self.background.add(sensor.name, sensor.ended())
            await self.until_heard(sensor)
        self.sensors += fresh
        return fresh

    async def until_heard(self, sensor: NumberedSensor, *, skip: float = 0.0) -> None:
        """Return when an event and a reading that ``sensor`` sends from now on have reached a destination.

        ``skip``: seconds that are skipped repeatedly meanwhile, to end backoffs.
        """
        sent = set[Item]()

        async def heard() -> bool:
            sent.update(await sensor.greet())
            return len({item.priority for item in sent & self.ledger.there[WEBHOOK]}) == _KINDS_OF_GREETING

        await self._until_skipping(heard, f"no greeting of {sensor.name} at {WEBHOOK} in {_SOON:.0f} s", skip)

    # The end of a fault

    def heal(self) -> None:
        """End the faults of all proxies and of the webhook receiver."""
        for proxy in self.proxies:
            proxy.heal()
        self.receiver.misbehave = None

    async def until_flowing(self) -> None:
        """Return when events arrive at every destination again; backoffs are skipped."""
        before = {name: len(self.ledger.arrivals[name]) for name in self.destinations}
        await self.skip(_BACKOFF)
        for name, number in before.items():
            await until(partial(_longer, self.ledger.arrivals[name], number), f"arrival at {name}", _SOON)

    async def restart_gateway(self) -> float:
        """Stop and start the gateway; return its start time in seconds, once all waiting alerts have a receipt."""
        await self.gateway.stop()
        seconds = await self.start_anew()
        await until(lambda: not self._is_unanswered, "receipts of the alerts of the restart", _SOON)
        return seconds

    async def start_anew(self) -> float:
        """Start the gateway; return its start time in seconds once it has reported its status."""
        self.home_assistant.status = None  # its counts are about the time before
        seconds = await self.start_gateway()
        await self.until_status()
        return seconds

    async def until_status(self) -> None:
        """Return when the gateway has reported its status."""
        await until(lambda: self.home_assistant.status is not None, "status", _SOON)

    async def settle(self) -> None:
        """End all faults; return when everything acknowledged has arrived, or nothing arrives any more.

        Readings that a cut may have lost are waited for more briefly.
        """
        self.heal()
        for turn, (silence, skipped) in enumerate(_WAITS):
            if await self._arrived(silence) or (turn and not self._owes(at_a_cut=False)):
                break
            await self.skip(skipped)
        await asyncio.sleep(_QUIET)

    async def _arrived(self, silence: float) -> bool:
        """Return True when everything has arrived, False when nothing arrived for ``silence`` seconds."""
        seen, since = self._progress(), time.monotonic()
        while (begun := time.monotonic()) - since < silence:
            if not self._owes():
                return True
            # ``_owes`` looks at every item: it may use a fifth of the time, or it would slow the drain down.
            await asyncio.sleep(max(0.05, 4 * (time.monotonic() - begun)))
            if (progress := self._progress()) > seen:
                seen, since = progress, time.monotonic()
        return False

    def _progress(self) -> int:
        return self.home_assistant.receipts + sum(map(len, self.ledger.arrivals.values()))

    def _owes(self, *, at_a_cut: bool = True) -> bool:
        """Return whether receipts or arrivals are missing; ``at_a_cut``: also those that a cut may have lost."""
        if self._is_unanswered:
            return True
        missing, dropped = self.ledger.missing(self.destinations), self.dropped()
        return any(
            sum(at_a_cut or not self.ledger.may_be_lost(item) for item in items) > dropped.get(priority, 0)
            for priority, items in missing.items()
        )

    @property
    def _is_unanswered(self) -> bool:
        return self.home_assistant.unconfirmed > 0 or any(producer.unanswered for producer in self._producers)

    def dropped(self) -> Mapping[Priority, int]:
        """Return what the gateway has dropped since the fault began, by its own count; never urgent events."""
        if (status := self.home_assistant.status) is None:
            return {}
        counted = Counter[Priority]()
        for drop in status.drops:
            counted[drop.priority] += drop.count
        excused = (Priority.CHANGE, Priority.READING)
        return {priority: max(0, counted[priority] - self._dropped.get(priority, 0)) for priority in excused}

    def begin(self, seed: str) -> None:
        """Begin the next fault with an empty ledger, and random choices that depend on ``seed`` alone."""
        self.random.seed(seed)
        self.gateway.may_end = False
        for proxy in self.proxies:
            proxy.seed(seed)
        self.ledger.start_next_round()
        self.proof.clear()
        self.figures.clear()
        self.exceeded.clear()
        self._connections = self.to_broker.counts.connections
        self._dropped = {priority: count + self._dropped.get(priority, 0) for priority, count in self.dropped().items()}

    def judge(self) -> Judgement:
        """Judge the ledger; raise ``FaultError`` if something that had to take effect did not."""
        idle = [what for what, count in self.proof.items() if not count]
        if idle or not self.proof:
            raise FaultError(f"the fault did not strike: {', '.join(idle) or 'nothing proves it'}")
        self.ledger.broken = self.to_broker.counts.connections - self._connections
        return judge(self.ledger, self.destinations, self.dropped())

    # Lifetime

    @asynccontextmanager
    async def started(self) -> AsyncIterator[Site]:
        """Run everything inside the block, with both destinations configured."""
        async with self.running() as self._stack:
            await self.home_assistant.pair(parse_line(await self.gateway.new_pairing_line()))
            self.background.add("Home Assistant", self.home_assistant.run())
            await self.set_webhook()
            await self.set_cloud()
            yield self

    async def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a fault and settle; raise ``EndedEarlyError`` if a background task or process ends before."""

        async def settled() -> None:
            await work
            await self.settle()

        await self.background.beside(settled())


def _longer(items: Sized, count: int) -> bool:
    return len(items) > count


async def _repeat(send_fn: _Send, pause: float) -> None:
    while True:
        if (sending := send_fn()) is not None:
            await sending
        await asyncio.sleep(pause)
