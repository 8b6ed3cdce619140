"""One site on trial: who talks there, where it arrives, and the ledger beside it."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Sized
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import orjson

from process_cosmos_gateway.contract.destinations import EventKind, Link, Priority, SendAgain, SetCloud, SetWebhook
from process_cosmos_gateway.contract.pairing import parse_line
from process_cosmos_gateway.destinations.enrolment import enrol
from process_cosmos_gateway.devices.options import BrokerOptions
from process_cosmos_testbed.arrivals import arrivals_of
from process_cosmos_testbed.event_producer import EventProducer
from process_cosmos_testbed.fake_home_assistant import FakeHomeAssistant
from process_cosmos_testbed.interceptor import Interceptor, intercepting
from process_cosmos_testbed.ledger import Item, Ledger, Row
from process_cosmos_testbed.processes import ManagedProcess, run_once, until
from process_cosmos_testbed.testbed import BIN, FaultError, Testbed
from process_cosmos_testbed.virtual_devices.sensors import NumberedSensor
from process_cosmos_testbed.webhook_receiver import WEBHOOK, Receiver, receiving

CLOUD = "cloud"
KINDS = tuple(EventKind)
BOUND = 1.5
"""Seconds before a cut in which acknowledged measurements may be lost: the linger, and their way to the gateway."""

_QUIET = 0.3
_BACKOFF = 31.0
_WAITS = ((2.0, _BACKOFF), (2.0, _BACKOFF), (2.0, 901.0), (4.0, _BACKOFF), (8.0, _BACKOFF), (16.0, 0.0))
"""Seconds without an arrival or a receipt, and seconds left out then, so that whoever backs off tries again."""
_LOOKS = 800
_LOOKS_BETWEEN_SKIPS = 20
_BURST = 60
_HEARD_SECONDS = 40.0
_KINDS_OF_GREETING = 2


class Site(Testbed):
    """Everything a fault is played on; it runs inside ``running``."""

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, disk: bool = False) -> None:
        """Keep everything in ``folder``; ``settings``: options beside the lab's own; ``disk``: one that fails."""
        super().__init__(folder, settings, disk=disk)
        self.random = Random()  # noqa: S311 - a seed makes a run repeatable
        self.ledger = Ledger(BOUND)
        self._log = ManagedProcess("arrivals", folder)
        self.home_assistant = FakeHomeAssistant(f"https://127.0.0.1:{self.gateway_port}", self.ledger)
        self._burst = self.home_assistant.new_alert()
        self.sensors: list[NumberedSensor] = []
        self._programs: list[EventProducer] = []
        self.events_at_cloud = 0
        self.receiver: Receiver
        self.destinations: tuple[str, ...] = (CLOUD, WEBHOOK)
        self.proof: dict[str, int] = {}
        self.figures: dict[str, float] = {}
        self._dropped: Mapping[Priority, int] = {}
        self._connections = 0

    # Proof that a fault was there

    def prove(self, what: str, count: int) -> None:
        """Note how often something struck; the fault counts only if all of it did."""
        self.proof[what] = self.proof.get(what, 0) + count

    async def until_struck(self, what: str, count_fn: Callable[[], int], *, before: int = 0, skip: float = 0.0) -> None:
        """Return when it struck more often than ``before``, and note it; raise ``FaultError`` if it does not.

        ``skip``: seconds that are left out again and again meanwhile, where whoever is to be struck backs off.
        """
        for look in range(1, _LOOKS):
            if (count := count_fn() - before) > 0:
                self.prove(what, count)
                return
            await asyncio.sleep(0.05)
            if skip and look % _LOOKS_BETWEEN_SKIPS == 0:
                await self.tell_machine("time", "skip", skip)
        raise FaultError(f"the fault did not strike: {what}")

    # Parts

    async def kill_gateway(self) -> None:
        """``kill -9`` to the gateway in the midst of a burst of alarms; the moment is noted as a cut."""
        begun = self.home_assistant.receipts
        for _ in range(_BURST):
            self.home_assistant.raise_alert(self._burst)
        await until(lambda: self.home_assistant.receipts > begun, "a receipt")
        await asyncio.sleep(self.random.uniform(0.0, 0.01))
        unsure = self.home_assistant.unconfirmed
        code = await self.gateway.kill()
        self.ledger.cuts.append(time.monotonic())
        self.prove("kill -9", code == -signal.SIGKILL)
        self.prove("alarms on their way at the kill", unsure)

    async def revive(self) -> None:
        """Start the gateway again if it gave up, as whoever watches over it does."""
        if not self.gateway.running:
            self.figures["started_again"] = self.figures.get("started_again", 0) + 1
            await self.start_gateway()

    async def cut_power(self, kept: str) -> None:
        """Cut the gateway's machine off: ``kept`` of what was not synced is on its disk afterwards (``lab.disk``)."""
        unsynced = await self.tell_machine("disk", "cut", kept, self.random.randrange(1 << 30))
        await self.gateway.wait(10)
        self.ledger.cuts.append(time.monotonic())
        self.prove("power cuts", 1)
        self.prove("unsynced writes at the cuts", unsynced)

    # Destinations

    async def set_webhook(self, url: str | None = None, kinds: tuple[EventKind, ...] = KINDS) -> None:
        """Set the webhook: at ``url``, else behind its proxy."""
        url = url or f"http://127.0.0.1:{self.to_webhook.port}/hook"
        await self.home_assistant.request(SetWebhook(id="webhook", name=WEBHOOK, url=url, kinds=kinds))

    async def set_cloud(self) -> None:
        """Enrol at the cloud endpoint, through its proxy."""
        await self.home_assistant.request(
            SetCloud(id="cloud", name=CLOUD, code=await self._code(self.to_cloud.port), kinds=KINDS)
        )

    async def _code(self, port: int) -> str:
        return await self.command_of_cloud(
            "code", "--url", f"https://127.0.0.1:{port}", "--site", self.home_assistant.site
        )

    @asynccontextmanager
    async def interceptor(self) -> AsyncIterator[Interceptor]:
        """Let somebody stand between gateway and cloud endpoint inside the block.

        He enrols for the site, which takes the gateway's own certificate back: it enrols anew at the end.
        """
        credentials = await enrol(parse_line(await self._code(self.cloud_port)), self.home_assistant.site)
        far = f"https://127.0.0.1:{self.cloud_port}"
        async with intercepting(self.folder / "cloud", far, credentials) as interceptor:
            self.lead_cloud_to(interceptor.port)
            yield interceptor
        self.lead_cloud_to(self.cloud_port)
        await self.set_cloud()

    async def send_again(self) -> None:
        """Send all rejected events again, as a person does."""
        await self.home_assistant.request(SendAgain(id="send-again"))

    def link(self, name: str) -> Link | None:
        """Return how the gateway says that a link stands."""
        links = () if self.home_assistant.status is None else self.home_assistant.status.links
        return next((link for link in links if link.name == name), None)

    # Traffic

    @asynccontextmanager
    async def traffic(self, rate: float = 20.0, keys: int = 3) -> AsyncIterator[None]:
        """Let Home Assistant, a program and ``keys`` devices talk, ``rate`` items a second a key and priority."""
        names = [self.home_assistant.new_alert() for _ in range(keys)]
        sensors = await self.add_sensors(keys)
        program = await self._program()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_repeat(program.say, 2 / rate))]
            tasks += [
                group.create_task(_repeat(partial(self.home_assistant.raise_alert, name), 1 / rate)) for name in names
            ]
            tasks += [group.create_task(_repeat(sensor.tick, 1 / rate)) for sensor in sensors]
            tasks += [group.create_task(_repeat(sensor.measure, 1 / rate)) for sensor in sensors]
            try:
                await asyncio.sleep(0.3)
                yield
                await asyncio.sleep(0.3)
            finally:
                for task in tasks:
                    task.cancel()

    async def _program(self) -> EventProducer:
        make = ("token", "--options", self.options, f"program-{len(self._programs)}")
        token = await run_once(BIN / "process-cosmos-gateway", *make)
        program = EventProducer(self.home_assistant.url, token.strip(), self.ledger)
        await self._stack.enter_async_context(_background(program.run()))
        self._programs.append(program)
        return program

    async def add_sensors(self, number: int) -> list[NumberedSensor]:
        """Plug ``number`` devices in that nobody knew; return when the broker has them."""
        broker = BrokerOptions(host="127.0.0.1", port=self.broker_port)
        fresh = [NumberedSensor(broker, f"meter-{len(self.sensors) + each}", self.ledger) for each in range(number)]
        for sensor in fresh:
            await self._stack.enter_async_context(sensor)
            await self.until_heard(sensor)
        self.sensors += fresh
        return fresh

    async def until_heard(self, sensor: NumberedSensor, *, skip: float = 0.0) -> None:
        """Return when an event and a reading that ``sensor`` says from now on have reached a destination.

        ``skip``: seconds that are left out again and again meanwhile, where whoever is to hear it backs off.
        """
        said = set[Item]()
        async with asyncio.timeout(_HEARD_SECONDS):
            for look in count(1):
                said.update(await sensor.greet())
                await asyncio.sleep(0.05)
                if len({item.priority for item in said & self.ledger.there[WEBHOOK]}) == _KINDS_OF_GREETING:
                    return
                if skip and look % _LOOKS_BETWEEN_SKIPS == 0:
                    await self.tell_machine("time", "skip", skip)

    # The end of a fault

    def now(self) -> float:
        """Return the real wall time."""
        return time.time()

    def heal(self) -> None:
        """End what the proxies and the receiver do."""
        for proxy in (self.to_broker, self.to_cloud, self.to_webhook):
            proxy.heal()
        self.receiver.misbehave = None

    async def until_flowing(self) -> None:
        """Return when every destination gets something again; whoever backs off is spared the rest of its wait."""
        before = {name: len(self.ledger.arrivals[name]) for name in self.destinations}
        await self.tell_machine("time", "skip", _BACKOFF)
        for name, number in before.items():
            arrivals = self.ledger.arrivals[name]
            await until(partial(_longer, arrivals, number), f"arrival at {name}")

    async def restart_gateway(self) -> float:
        """Stop and start the gateway; return after how many seconds it was well, once all that waited has gone over."""
        await self.gateway.stop()
        self.home_assistant.status = None  # what it counted before proves nothing of what is played next
        seconds = await self.start_gateway()
        await until(lambda: self.home_assistant.status is not None and not self._is_unanswered, "alarms of the restart")
        return seconds

    async def settle(self) -> None:
        """Heal everything; return when all that was acknowledged has arrived, or nothing comes any more.

        Readings that a cut may have taken are not waited for as long as the rest.
        """
        self.heal()
        for turn, (silence, unusable) in enumerate(_WAITS):
            if await self._arrived(silence) or (turn and not self._owes(at_a_cut=False)):
                break
            # Whoever backs off is spared the rest of its wait.
            await self.tell_machine("time", "skip", unusable)
        await asyncio.sleep(_QUIET)

    async def _arrived(self, silence: float) -> bool:
        """Return True when all has arrived, False when nothing came for ``silence`` seconds."""
        seen, since = self._progress(), time.monotonic()
        while (begun := time.monotonic()) - since < silence:
            if not self._owes():
                return True
            await asyncio.sleep(max(0.05, 4 * (time.monotonic() - begun)))
            if (progress := self._progress()) > seen:
                seen, since = progress, time.monotonic()
        return False

    def _progress(self) -> int:
        return self.home_assistant.receipts + sum(map(len, self.ledger.arrivals.values()))

    def _owes(self, *, at_a_cut: bool = True) -> bool:
        """Say whether something was not acknowledged yet, or not everywhere; ``at_a_cut``: what may be lost counts."""
        if self._is_unanswered:
            return True
        missing, dropped = self.ledger.missing(self.destinations), self.dropped()
        return any(
            sum(at_a_cut or not self.ledger.may_be_lost(item) for item in items) > dropped.get(priority, 0)
            for priority, items in missing.items()
        )

    @property
    def _is_unanswered(self) -> bool:
        return self.home_assistant.unconfirmed > 0 or any(program.unanswered for program in self._programs)

    def waiting_at(self, destination: str) -> Sequence[Item]:
        """Return what was acknowledged and has not arrived at ``destination``."""
        return [item for items in self.ledger.missing((destination,)).values() for item in items]

    def dropped(self) -> Mapping[Priority, int]:
        """Return what the gateway says it has dropped since the fault began; nothing excuses a lost alarm."""
        if (status := self.home_assistant.status) is None:
            return {}
        counted = Counter[Priority]()
        for drop in status.drops:
            counted[drop.priority] += drop.count
        excused = (Priority.CHANGE, Priority.READING)
        return {priority: max(0, counted[priority] - self._dropped.get(priority, 0)) for priority in excused}

    def begin(self, seed: str) -> None:
        """Begin the next fault with clean books, and choices that follow from ``seed`` alone."""
        self.random.seed(seed)
        for proxy in (self.to_broker, self.to_cloud, self.to_webhook):
            proxy.seed(seed)
        self.ledger.start_next_round()
        self.proof.clear()
        self.figures.clear()
        self._connections = self.to_broker.counts.connections
        self._dropped = {priority: count + self._dropped.get(priority, 0) for priority, count in self.dropped().items()}

    def judge(self) -> tuple[Row, ...]:
        """Return the rows; raise ``FaultError`` if something that had to strike did not."""
        idle = [what for what, count in self.proof.items() if not count]
        if idle or not self.proof:
            raise FaultError(f"the fault did not strike: {', '.join(idle) or 'nothing proves it'}")
        self.ledger.broken = self.to_broker.counts.connections - self._connections
        return tuple(self.ledger.judge(self.destinations, self.dropped()))

    # Being there

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Site]:
        """Run everything inside the block."""
        async with AsyncExitStack() as self._stack:
            stack = self._stack
            self.receiver = await stack.enter_async_context(receiving(self.ledger))
            self.to_webhook.far_port = self.receiver.port
            for proxy in (self.to_broker, self.to_cloud, self.to_webhook):
                await stack.enter_async_context(proxy)
            for part in (self.broker, self.cloud, self._log, self.gateway):
                stack.push_async_callback(part.kill if part is self._log else part.stop)
            await asyncio.gather(self.start_broker(), self.start_cloud())
            await self.start_gateway()
            pair = ("pair", "--options", self.options, "--host", "127.0.0.1")
            await self.home_assistant.pair(parse_line(await run_once(BIN / "process-cosmos-gateway", *pair)))
            await stack.enter_async_context(_background(self.home_assistant.run()))
            await self.set_webhook()
            await self.set_cloud()
            follow = ("ledger", "--json", "--follow", "--data", self.folder / "cloud")
            await self._log.start(BIN / "process-cosmos-cloud", *follow)
            await stack.enter_async_context(_background(self._follow()))
            yield self

    async def _follow(self) -> None:
        """Take the cloud endpoint's own log of arrivals, repeats included, into the ledger."""
        rest = b""
        with self._log.log.open("rb") as log:
            while True:
                *lines, rest = (rest + log.read()).split(b"\n")
                self.events_at_cloud += len(lines)
                for line in lines:
                    document = orjson.loads(line)
                    for arrival in arrivals_of(document, fresh=not document["duplicate"]):
                        self.ledger.arrive(CLOUD, arrival)
                await asyncio.sleep(0.05)


def _longer(things: Sized, count: int) -> bool:
    return len(things) > count


async def _repeat(say_fn: Callable[[], Awaitable[None] | None], pause: float) -> None:
    while True:
        if (saying := say_fn()) is not None:
            await saying
        await asyncio.sleep(pause)


@asynccontextmanager
async def _background(work: Awaitable[None]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
