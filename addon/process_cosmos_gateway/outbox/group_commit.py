"""Group commit: all events submitted while a commit is running share the next transaction."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from .enqueue import EncodedEvent, EnqueueResult
from .model import Added

type Outcome = asyncio.Future[Added]


def outcome_error(outcome: Outcome | None) -> BaseException | None:
    """Return the error of a submitted event; None: it was stored, or its commit has not finished."""
    return outcome.exception() if outcome is not None and outcome.done() and not outcome.cancelled() else None


@dataclass(slots=True)
class _Submission:
    event: EncodedEvent
    outcome: Outcome
    after: Outcome | None

    def fail_with_predecessor(self) -> bool:
        """Fail this event if the preceding event with the same key failed. Return whether it did."""
        error = outcome_error(self.after)
        if error is not None and not self.outcome.done():
            self.outcome.set_exception(error)
        return error is not None


class GroupCommit:
    """A queue of submitted events, committed in order, all pending ones per transaction."""

    def __init__(
        self, commit_fn: Callable[[Sequence[EncodedEvent]], Coroutine[Any, Any, Sequence[EnqueueResult]]]
    ) -> None:
        """``commit_fn`` returns the result of each event once the transaction is durable."""
        self._commit_fn = commit_fn
        self._pending: list[_Submission] = []
        self._task: asyncio.Task[None] | None = None

    def submit(self, event: EncodedEvent, after: Outcome | None) -> Outcome:
        """Queue an event and return its future outcome. It fails if ``after``, an earlier event of its key, fails."""
        outcome: Outcome = asyncio.get_running_loop().create_future()
        self._pending.append(_Submission(event, outcome, after))
        if self._task is None:
            self._task = asyncio.create_task(self._commit_all(), name="accept")
        return outcome

    async def _commit_all(self) -> None:
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                # A predecessor within this batch has no outcome yet: ``enqueue_events`` refuses its successors itself.
                if batch := [each for each in batch if each.after is None or not each.fail_with_predecessor()]:
                    await self._commit_batch(batch)
        finally:
            # No await lies between the last look at the list and this line, so no submission is left behind.
            self._task = None

    async def _commit_batch(self, batch: Sequence[_Submission]) -> None:
        committing = asyncio.ensure_future(self._commit_fn([each.event for each in batch]))
        await asyncio.wait({committing})
        error = committing.exception()  # of any type: raise it to the callers, not in this task
        for each, result in zip(batch, [error] * len(batch) if error else committing.result(), strict=True):
            if each.outcome.done():
                continue
            if isinstance(result, BaseException):
                each.outcome.set_exception(result)
            else:
                each.outcome.set_result(result)
