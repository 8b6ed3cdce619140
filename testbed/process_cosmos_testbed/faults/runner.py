"""Runs faults on sites, several at a time, and reports the outcome of each."""

import asyncio
import shutil
import tempfile
import time
import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from process_cosmos_testbed.judge import Judgement
from process_cosmos_testbed.processes import TestbedError
from process_cosmos_testbed.report import Progress

from .fault import Fault, Scale
from .site import Site


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The result of a fault. ``error``: it could not be judged, because it did not take effect or a process failed."""

    fault: str
    sentence: str
    judgement: Judgement = field(default_factory=lambda: Judgement(rows=(), missing={}))
    proof: Mapping[str, int] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    exceeded: Sequence[str] = ()
    seconds: float = 0.0
    error: str | None = None

    @property
    def held(self) -> bool:
        """Whether the fault took effect, every promise held and no figure exceeded its bound."""
        return self.error is None and not self.exceeded and self.judgement.held

    @property
    def summary(self) -> str:
        """The result in one line, and a line for each bound exceeded and each destination where items are missing."""
        exceeded = [f"over its bound: {each}" for each in self.exceeded]
        if self.error is not None:
            return "\n        ".join([f"NOT JUDGED: {self.error}", *exceeded])
        rows = [
            f"{row.priority}: {', '.join(f'{count} {name}' for name, count in row.counts()) or 'none sent'}"
            for row in self.judgement.rows
        ]
        return "\n        ".join(
            [" · ".join(["held" if self.held else "BROKEN", *rows]), *exceeded, *self.judgement.describe_missing()]
        )

    def document(self) -> Mapping[str, Any]:
        """Return the outcome for ``--json``, without the rows."""
        own = {name: getattr(self, name) for name in ("fault", "sentence", "held", "proof", "figures", "seconds")}
        return {
            **own,
            "error": self.error,
            "exceeded": list(self.exceeded),
            "missing": list(self.judgement.describe_missing()),
        }


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs faults, ``jobs`` of them at a time; each seed makes the same choices, however many run.

    ``settings``: the options of every gateway.
    """

    seed: int
    scale: Scale
    settings: Mapping[str, Any]
    progress: Progress
    jobs: int = 1

    async def run(self, faults: Sequence[Fault]) -> list[Outcome]:
        """Run ``faults``; report each as it ends, return all in their order."""
        outcomes: dict[str, Outcome] = {}
        waiting = deque(faults)
        async with asyncio.TaskGroup() as group:
            for _ in range(self.jobs):
                group.create_task(self._run_some(waiting, outcomes))
        return [outcomes[fault.name] for fault in faults]

    async def _run_some(self, waiting: deque[Fault], outcomes: dict[str, Outcome]) -> None:
        pool = TestbedPool(self)
        try:
            while waiting:
                # Starting a site takes seconds: faults that can use the present one come first.
                fault = next(filter(pool.suits, waiting), waiting[0])
                waiting.remove(fault)
                self.progress.say(f"{fault.name}: {fault.sentence}")
                outcome = outcomes[fault.name] = await pool.run(fault)
                self.progress.say(f"    {fault.name} {outcome.summary}  ({outcome.seconds:.1f} s)")
        finally:
            await pool.clear()


@dataclass(slots=True)
class TestbedPool:
    """Provides a site for each fault; one site serves several faults, until a fault leaves it unusable for others."""

    _of: Runner
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _site: Site | None = None

    def suits(self, fault: Fault) -> bool:
        """Return whether the present site can be used for ``fault``."""
        return self._site is not None and not fault.own_site and fault.disk is self._site.gateway.disk

    async def run(self, fault: Fault) -> Outcome:
        """Run ``fault``; a failure is part of its outcome."""
        outcome = Outcome(fault=fault.name, sentence=fault.sentence)
        begun = time.monotonic()
        try:
            site = await self._site_for(fault)
            site.begin(f"{self._of.seed} {fault.name}")
            await site.run(fault.inject(site, self._of.scale))
            outcome.judgement = site.judge()
        except (TestbedError, OSError, ExceptionGroup) as error:
            outcome.error = f"{type(error).__name__}: {error}"
            traceback.print_exception(error)
        if self._site is not None:  # figures matter most where one was over its bound
            outcome.proof, outcome.figures = dict(self._site.proof), dict(self._site.figures)
            outcome.exceeded = tuple(self._site.exceeded)
        if fault.own_site or not outcome.held:
            await self.clear(keep=not outcome.held)
        outcome.seconds = round(time.monotonic() - begun, 1)
        return outcome

    async def _site_for(self, fault: Fault) -> Site:
        if not self.suits(fault):
            await self.clear()
        if self._site is None:
            folder = Path(tempfile.mkdtemp(prefix="process-cosmos-faults-"))
            site = Site(folder, {**self._of.settings, **fault.settings}, disk=fault.disk)
            self._site = await self._stack.enter_async_context(site.started())
        return self._site

    async def clear(self, *, keep: bool = False) -> None:
        """Stop the site's processes; ``keep`` its folder with all logs and databases for diagnosis."""
        site, self._site = self._site, None
        await self._stack.aclose()
        if site is not None and keep:
            self._of.progress.say(f"    logs and databases: {site.folder}")
        elif site is not None:
            await asyncio.to_thread(shutil.rmtree, site.folder, ignore_errors=True)


def document(seed: int, outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """Return the JSON of ``--json``: a row for each fault and priority, and for each fault what proves it."""
    rows = [{"fault": outcome.fault, **asdict(row)} for outcome in outcomes for row in outcome.judgement.rows]
    faults = [outcome.document() for outcome in outcomes]
    return {"seed": seed, "ok": all(outcome.held for outcome in outcomes), "results": rows, "faults": faults}
