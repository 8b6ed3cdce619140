"""Group commit: events that wait to be accepted share one transaction."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from .enqueue import EncodedEvent, EnqueueResult
from .model import Added

type Outcome = asyncio.Future[Added]


def outcome_error(outcome: Outcome | None) -> BaseException | None:
    """Return why something offered is not kept; None: it is, or nobody knows yet."""
    return outcome.exception() if outcome is not None and outcome.done() and not outcome.cancelled() else None


@dataclass(slots=True)
class _Offered:
    arrival: EncodedEvent
    outcome: Outcome
    after: Outcome | None

    def falls(self) -> bool:
        """Share the outcome_error of the event that must not be overtaken; say whether there was one."""
        error = outcome_error(self.after)
        if error is not None and not self.outcome.done():
            self.outcome.set_exception(error)
        return error is not None


class GroupCommit:
    """Takes what is offered in its order, all that waits at once."""

    def __init__(
        self, commit_fn: Callable[[Sequence[EncodedEvent]], Coroutine[Any, Any, Sequence[EnqueueResult]]]
    ) -> None:
        """``commit_fn`` returns how events were taken once that survives a power cut."""
        self._commit_fn = commit_fn
        self._waiting: list[_Offered] = []
        self._task: asyncio.Task[None] | None = None

    def submit(self, arrival: EncodedEvent, after: Outcome | None) -> Outcome:
        """Return the outcome to be; ``after``: of an earlier event of the same key, whose outcome_error this one shares."""
        outcome: Outcome = asyncio.get_running_loop().create_future()
        self._waiting.append(_Offered(arrival, outcome, after))
        if self._task is None:
            self._task = asyncio.create_task(self._take_all(), name="accept")
        return outcome

    async def _take_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                if batch := [each for each in batch if each.after is None or not each.falls()]:
                    await self._take(batch)
        finally:
            self._task = None

    async def _take(self, batch: Sequence[_Offered]) -> None:
        committing = asyncio.ensure_future(self._commit_fn([each.arrival for each in batch]))
        await asyncio.wait({committing})
        error = committing.exception()  # whatever it is, it is theirs who wait
        for each, result in zip(batch, [error] * len(batch) if error else committing.result(), strict=True):
            if each.outcome.done():
                continue
            if isinstance(result, BaseException):
                each.outcome.set_exception(result)
            else:
                each.outcome.set_result(result)
