"""Plays faults one after the other, and says what each came to."""

import asyncio
import shutil
import sys
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from process_cosmos_testbed.control import ControlError
from process_cosmos_testbed.fake_home_assistant import RequestFailedError
from process_cosmos_testbed.ledger import Row
from process_cosmos_testbed.processes import ProcessFailedError
from process_cosmos_testbed.testbed import FaultError

from .fault import Fault, Scale
from .site import Site

_FAILURES = (FaultError, ProcessFailedError, RequestFailedError, ControlError, TimeoutError, OSError, ExceptionGroup)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a fault came to. ``error``: it could not be judged, because it did not strike or a part failed."""

    fault: str
    sentence: str
    rows: Sequence[Row] = ()
    proof: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None

    @property
    def held(self) -> bool:
        """Whether it struck and every promise held."""
        broken = any(row.lost or row.unexpected or row.duplicate_effects or row.order_violations for row in self.rows)
        return self.error is None and not broken

    @property
    def summary(self) -> str:
        """Say in a line what it came to."""
        if self.error is not None:
            return f"NOT JUDGED: {self.error.splitlines()[0]}"
        parts = [f"{row.priority}: {', '.join(_figures(row)) or 'none sent'}" for row in self.rows]
        return " · ".join(["held" if self.held else "BROKEN", *parts])


class Runner:
    """Plays faults, ``jobs`` of them at a time; each seed makes the same choices, however many play."""

    def __init__(self, seed: int, scale: Scale, settings: Mapping[str, Any], jobs: int = 1) -> None:
        """Take the seed, how much to play, and the options every gateway gets."""
        self._seed = seed
        self._scale = scale
        self._settings = settings
        self._jobs = jobs

    async def play(self, faults: Sequence[Fault]) -> list[Outcome]:
        """Play ``faults``; show each as it ends, return all in their order."""
        outcomes: dict[str, Outcome] = {}
        waiting = deque(faults)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._jobs):
                group.create_task(self._play_some(waiting, outcomes))
        return [outcomes[fault.name] for fault in faults]

    async def _play_some(self, waiting: deque[Fault], outcomes: dict[str, Outcome]) -> None:
        stage = TestbedPool(self._seed, self._scale, self._settings)
        try:
            while waiting:
                fault = next(filter(stage.suits, waiting), waiting[0])
                waiting.remove(fault)
                say(f"{fault.name}: {fault.sentence}")
                outcome = outcomes[fault.name] = await stage.play(fault)
                say(f"    {fault.name} {outcome.summary}  ({outcome.seconds:.1f} s)")
        finally:
            await stage.clear()


class TestbedPool:
    """Where one fault after the other is played; a site serves several, until one leaves it worn out."""

    def __init__(self, seed: int, scale: Scale, settings: Mapping[str, Any]) -> None:
        """Take what the runner has."""
        self._seed = seed
        self._scale = scale
        self._settings = settings
        self._stack = AsyncExitStack()
        self._site: Site | None = None

    def suits(self, fault: Fault) -> bool:
        """Say whether the site that stands is one for ``fault``."""
        return self._site is not None and not fault.own_site and fault.disk is self._site.disk

    async def play(self, fault: Fault) -> Outcome:
        """Play ``fault``; what goes wrong is its outcome."""
        outcome = Outcome(fault=fault.name, sentence=fault.sentence)
        begun = time.monotonic()
        try:
            site = await self._site_for(fault)
            site.begin(f"{self._seed} {fault.name}")
            await fault.play(site, self._scale)
            await site.settle()
            outcome.rows = site.judge()
        except _FAILURES as error:
            outcome.error = f"{type(error).__name__}: {error}"
            traceback.print_exception(error)
        if self._site is not None:  # figures tell most where something was over its bound
            outcome.proof, outcome.figures = dict(self._site.proof), dict(self._site.figures)
        if fault.own_site or not outcome.held:
            await self.clear(keep=not outcome.held)
        outcome.seconds = round(time.monotonic() - begun, 1)
        return outcome

    async def _site_for(self, fault: Fault) -> Site:
        if not self.suits(fault):
            await self.clear()
        if self._site is None:
            folder = Path(tempfile.mkdtemp(prefix="process-cosmos-faults-"))
            site = Site(folder, {**self._settings, **fault.settings}, disk=fault.disk)
            self._site = await self._stack.enter_async_context(site.running())
        return self._site

    async def clear(self, *, keep: bool = False) -> None:
        """Stop the site's processes; ``keep`` its folder, with every log, for whoever wants to know why."""
        site, self._site = self._site, None
        await self._stack.aclose()
        if site is not None and keep:
            say(f"    logs and databases: {site.folder}")
        elif site is not None:
            await asyncio.to_thread(shutil.rmtree, site.folder, ignore_errors=True)


def say(sentence: str) -> None:
    """Show how far the run is."""
    sys.stdout.write(f"faults  {time.strftime('%H:%M:%S')}  {sentence}\n")
    sys.stdout.flush()


def document(seed: int, outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """Return the JSON of ``--json``: a result a fault and priority, and beside them what proved each fault."""
    rows = [
        {"fault": outcome.fault, **{name: getattr(row, name) for name in row.__dataclass_fields__}}
        for outcome in outcomes
        for row in outcome.rows
    ]
    faults = [
        {
            "fault": outcome.fault,
            "sentence": outcome.sentence,
            "held": outcome.held,
            "proof": outcome.proof,
            "figures": outcome.figures,
            "seconds": outcome.seconds,
            "error": outcome.error,
        }
        for outcome in outcomes
    ]
    return {"seed": seed, "ok": all(outcome.held for outcome in outcomes), "results": rows, "faults": faults}


def _figures(row: Row) -> Iterator[str]:
    columns = ("ok", "recovered", "unknown", "lost_within_bound", "dropped_counted", "marked_repeats")
    for name in (*columns, "lost", "unexpected", "duplicate_effects", "order_violations"):
        if count := getattr(row, name):
            yield f"{count} {name}"
