"""The game with both shipped sides of the protocol: cuts, crashes, lost replies and restores, then all is healed."""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from custom_components.process_cosmos.alerts.record_frames import find_frames
from tests.gateway.store.parts import HandClock
from tests.powercut.disk import Image, Kept

from .both_sides import CLOUD, Cloud, GatewaySide, Link
from .site import Phone, Site

WITHIN = 60
ENOUGH = 1_000
"""Messages of a session that is not cut."""
GROUP = "leak"
NAMES = ("Close", "Keep open")

randoms = st.integers(0, 2**32 - 1).map(Random)
wheres = st.floats(0, 1)
names = st.sampled_from(NAMES)


class BothSides(RuleBasedStateMachine):
    """One house; every rule leaves both sides with nothing left to do at that moment."""

    loop: ClassVar[asyncio.AbstractEventLoop]
    hass: ClassVar[HomeAssistant]
    anna: ClassVar[Phone]
    add_site: ClassVar[Callable[..., Site]]
    folders: ClassVar[Path]
    numbers: ClassVar[count[int]]
    runs: ClassVar[list[str]]
    """What answers did: the number of the call that offered them, and their name."""
    offered: ClassVar[list[int]]
    """The calls, newest last."""
    late: ClassVar[list[str]]
    """What answers did after newer content."""
    healed: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.cloud = Cloud()
        self.clock = HandClock()
        self.calls: dict[int, str] = {}
        self.over: dict[str, str] = {}
        """How each alert was closed."""
        self.recorded: set[str] = set()
        """Proposals of the cloud that were found to count."""
        self.backups: tuple[bytes, Image] | None = None
        self.older_home_assistant = self.older_gateway = False

    def go[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WITHIN)

    @initialize()
    def a_house(self) -> None:
        self.go(self._furnish())

    async def _furnish(self) -> None:
        for each in (self.runs, self.offered, self.late, self.anna.sent):
            each.clear()
        self.anna.away = False
        self.site = type(self).add_site("http://127.0.0.1:1", phones=[self.anna.device_id], destinations=[CLOUD])
        await self.site.set_up()
        self.gateway = GatewaySide(self.folders / str(next(self.numbers)), self.clock)
        self.gateway._folder.mkdir()
        await self.gateway.start({})
        self.link = Link(self.site, self.gateway)
        await self._connect(ENOUGH)
        await self._raise_alert()
        await self._back_up()

    @rule()
    def raise_alert(self) -> None:
        self.go(self._raise_alert())

    async def _raise_alert(self) -> None:
        number = next(self.numbers)
        alive = self.site.alerts.alive_of(GROUP)
        answers = [
            {"name": name, "actions": [{"action": "valve.turn", "data": {"mark": f"{number} {name}"}}]}
            for name in NAMES
        ]
        self.offered.append(number)
        reply = await self.site.raise_alert(f"Water {number}", group=GROUP, answers=answers)
        assert reply["new"] == (alive is None), "after closing the next call is a new alert"
        assert reply["id"] not in self.calls.values() or alive
        self.calls[number] = reply["id"]
        await self._quiet()

    @rule(where=wheres)
    def alert_and_crash(self, where: float) -> None:
        """Home Assistant dies somewhere in a call, with nobody to hear of it."""
        self.go(self._alert_and_crash(where))

    async def _alert_and_crash(self, where: float) -> None:
        self.link.cut()
        before = len(self._memory.read_bytes())
        await self._raise_alert()
        number = self.offered[-1]
        left = self._memory_in(before, where)
        if f"Water {number}".encode() not in left[before:]:
            self.offered.remove(number)  # the call never returned
            del self.calls[number]
        await self._start_home_assistant(left)

    @rule(name=names, where=wheres)
    def answer_and_crash(self, name: str, where: float) -> None:
        """Home Assistant dies somewhere in an answer, before or after its effect."""
        self.go(self._answer_and_crash(name, where))

    async def _answer_and_crash(self, name: str, where: float) -> None:
        self.link.cut()
        before, runs = len(self._memory.read_bytes()), list(self.runs)
        await self._act("answer", answer=name)
        left = self._memory_in(before, where)
        if b'"type":"running"' not in left[before:]:
            self.runs[:] = runs  # what was not on disk has had no effect
        await self._start_home_assistant(left)

    def _memory_in(self, before: int, where: float) -> bytes:
        """Return the memory as a crash may leave it after ``before`` bytes."""
        whole = self._memory.read_bytes()
        ends = [before, *(end for _, end, _ in find_frames(whole) if end > before)]
        return whole[: ends[round(where * (len(ends) - 1))]]

    @rule(name=names)
    def answer_here(self, name: str) -> None:
        self.go(self._act("answer", answer=name))

    @rule(name=names)
    def answer_what_may_be_over(self, name: str) -> None:
        self.go(self._answer_the_last(name))

    async def _answer_the_last(self, name: str) -> None:
        if self.calls:
            with contextlib.suppress(HomeAssistantError):  # refused: it is closed
                await self.site.call("answer", alert=self.calls[max(self.calls)], answer=name)
        await self._quiet()

    @rule()
    def acknowledge_here(self) -> None:
        self.go(self._act("acknowledge"))

    @rule()
    def resolve(self) -> None:
        self.go(self._act("resolve"))

    async def _act(self, action: str, **data: str) -> None:
        if alive := self.site.alerts.alive_of(GROUP):
            with contextlib.suppress(HomeAssistantError):  # refused: a newer ring, or too late
                await self.site.call(action, alert=alive.id, **data)
        await self._quiet()

    @rule(answer=st.sampled_from([*NAMES, None]), outdated=st.booleans())
    def answer_at_the_cloud(self, *, answer: str | None, outdated: bool) -> None:
        self.cloud.answer(answer, outdated=outdated)
        self.go(self._poll())

    @rule(name=names)
    def answer_at_the_cloud_what_has_rung_anew(self, name: str) -> None:
        self.go(self._answer_what_has_rung_anew(name))

    async def _answer_what_has_rung_anew(self, name: str) -> None:
        await self._raise_alert()
        await self._connect(ENOUGH)
        await self._deliver(reply_lost=False)
        await self._raise_alert()
        self.cloud.answer(name, outdated=False)
        await self._poll()

    async def _poll(self) -> None:
        await self.gateway.poll(self.cloud)
        await self._quiet()

    @rule(messages=st.sampled_from([0, 1, 2, ENOUGH, ENOUGH]))
    def connect(self, messages: int) -> None:
        self.go(self._connect(messages))

    async def _connect(self, messages: int) -> None:
        await self.link.connect(messages)
        await self._quiet()

    @rule()
    def cut_the_link(self) -> None:
        self.loop.call_soon_threadsafe(self.link.cut)

    @rule(reply_lost=st.booleans())
    def deliver(self, *, reply_lost: bool) -> None:
        self.go(self._deliver(reply_lost=reply_lost))

    async def _deliver(self, *, reply_lost: bool) -> None:
        await self.gateway.deliver(self.cloud, reply_lost=reply_lost)
        await self._quiet()

    @rule(seconds=st.sampled_from([1, 6, 70]))
    def time_passes(self, seconds: int) -> None:
        self.go(self._pass(seconds))

    async def _pass(self, seconds: int) -> None:
        for _ in range(seconds):
            await self.link.live()
            self.clock.advance(1)
            await self.site.pass_time(seconds=1)
        await self._quiet()

    @rule(away=st.booleans())
    def phone(self, *, away: bool) -> None:
        self.anna.away = away

    @rule()
    def home_assistant_crashes(self) -> None:
        self.go(self._start_home_assistant(None))

    @rule(where=wheres, kept=st.sampled_from(Kept), random=randoms)
    def power_cut_at_the_gateway_while_it_applies(self, where: float, kept: Kept, random: Random) -> None:
        """What it had not confirmed may be lost."""
        self.go(self._cut_gateway(where, kept, random))

    async def _cut_gateway(self, where: float, kept: Kept, random: Random) -> None:
        self.link.cut()
        since = len(self.gateway.disk.steps)
        await self.link.connect(ENOUGH, receipts_lost=True)
        self.link.cut()
        await self.gateway.cut(since, where, kept, random)
        await self._quiet()

    @rule()
    def back_up(self) -> None:
        self.go(self._back_up())

    async def _back_up(self) -> None:
        self.backups = self._memory.read_bytes(), await self.gateway.backup()

    @rule()
    def restore_the_gateway(self) -> None:
        if self.backups:
            self.older_gateway = True
            self.loop.call_soon_threadsafe(self.link.cut)
            self.go(self.gateway.restore(self.backups[1]))

    @rule()
    def restore_home_assistant(self) -> None:
        """What nobody else heard of is gone: that limit is documented."""
        if self.backups:
            self.older_home_assistant = True
            self.runs.clear()
            self.go(self._start_home_assistant(self.backups[0]))

    @property
    def _memory(self) -> Path:
        return Path(self.hass.config.path(".storage", f"process_cosmos.{self.site.entry.entry_id}.memory"))

    async def _start_home_assistant(self, content: bytes | None) -> None:
        """Die and start again a second later with ``content`` as the memory (None: as it is)."""
        self.link.cut()
        if content is None:
            content = self._memory.read_bytes()
        else:
            self.over.clear()  # what was closed last may not have been on disk
        assert await self.hass.config_entries.async_unload(self.site.entry.entry_id)
        self._memory.write_bytes(content)
        self.clock.advance(1)
        self.site.freezer.tick(1)
        await self.site.set_up()
        await self._quiet()

    async def _quiet(self) -> None:
        """Let both sides do what is due, and look whether the promises hold."""
        await self.gateway.alerts.process_due_requests()
        await self.link.carry()
        await self.site.until(lambda: not self.site.alerts._answers._scripts)
        await self.link.carry()
        self._check()

    def _check(self) -> None:
        ran = [self.calls.get(int(mark.split()[0])) for mark in self.runs]
        assert len(ran) == len(set(ran)), f"an alert's answers ran more than once: {self.runs}"
        if not self.older_home_assistant:
            assert not self.late, f"an answer ran after newer content: {self.late}"
            known = self.site.alerts
            assert all(known.get(alert) for alert in self.calls.values()), "what escalate returned is lost"
            self._check_what_is_over()
            self._check_what_counted()

    def _check_what_is_over(self) -> None:
        for one in self.site.alerts._journal.state.alerts.values():
            if one.alive:
                assert one.id not in self.over, "what was closed is alive"
            else:
                assert self.over.setdefault(one.id, one.state) == one.state, "what was closed was closed again"

    def _check_what_counted(self) -> None:
        settled = self.site.alerts._journal.state.proposals
        for item in self.cloud.items:
            proposal = f"{item.id}@{CLOUD}"
            if proposal in self.recorded or settled.get(proposal, "not settled") is not None:
                continue
            self.recorded.add(proposal)
            answers_from = self.site.known(item.alert).answers_from
            assert item.revision is None or item.revision >= answers_from, "an answer to an older ring counted"

    def teardown(self) -> None:
        try:
            if hasattr(self, "link"):
                self.go(self._heal())
                type(self).healed += 1
        finally:
            if hasattr(self, "link"):
                self.go(self._close())

    async def _heal(self) -> None:
        """Everything is well again: both sides and the cloud agree, and somebody was told of what is open."""
        self.anna.away = False
        await self._connect(ENOUGH)
        for _ in range(3):
            await self._pass(65)
            await self._deliver(reply_lost=False)
            await self._poll()
        _, summaries = await self.gateway.alerts.cursor_and_summaries()
        known = self.site.alerts._journal.state.alerts.values()
        here = {str(one.id): (one.state.value, one.revision) for one in known}
        there = {str(summary.alert): (summary.state.value, summary.revision) for summary in summaries}
        # What is over and came into being after the backup of Home Assistant is not told it again.
        extra = {one: state for one, (state, _) in there.items() if one not in here}
        assert self.older_home_assistant or not extra
        assert {"open", "acknowledged"}.isdisjoint(extra.values()), "what is alive is not known here"
        assert {one: there.get(one) for one in here} == here, "the two sides disagree"
        for alert, (state, revision) in here.items():
            kinds = [kind for kind, _ in self.cloud.of(alert) if kind != "notification_requested"]
            newest = [data for kind, data in self.cloud.of(alert) if kind != "notification_requested"][-1]
            assert (newest["state"], newest["revision"]) == (state, revision), f"the cloud disagrees: {kinds}"
            if state == "open":
                message = self.site.known(alert).content.message
                assert any(data["message"].startswith(message) for data in self.anna.notifications), "nobody was told"

    async def _close(self) -> None:
        self.link.cut()
        await self.gateway.stop()
        await self.hass.config_entries.async_unload(self.site.entry.entry_id)
        await self.hass.config_entries.async_remove(self.site.entry.entry_id)
