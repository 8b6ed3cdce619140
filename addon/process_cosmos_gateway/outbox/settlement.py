"""What happens to the tables when a destination has answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from . import overflow_queue, reading_batches
from .counters import array, count, wait
from .model import Delivered, Delivery, DeliveryResult, Failed, Limits, Rejected
from .statements import STATEMENTS

_MOST_PASSED = 4096
"""Events the cursor leaves behind at a time: each takes a row of its own."""

type Settlement = tuple[Delivery, DeliveryResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """``before``, ``after``: events the destination has taken without, and with, those that are settled now."""

    destination: str
    before: int
    after: int
    now: float
    limits: Limits


def settle(
    transaction: Transaction, destination: str, results: Sequence[Settlement], limits: Limits, now: float
) -> Sequence[Settlement]:
    """Write down what became of some parcels; return the same, with poison turned into rejected."""
    delivered = sum(isinstance(result, Delivered) for _, result in results)
    known = transaction.rows(
        "UPDATE outbox_destination SET delivered = delivered + ? WHERE name = ? RETURNING delivered",
        delivered,
        destination,
    )
    if not known:
        return ()
    after: int = known[0][0]
    progress = Progress(destination=destination, before=after - delivered, after=after, now=now, limits=limits)
    settled: list[Settlement] = []
    for priority in STATEMENTS:
        of_priority = [settlement for settlement in results if settlement[0].priority is priority]
        if of_priority and _settle_run(transaction, priority, of_priority, progress):
            settled += of_priority
        elif of_priority:
            settled += _settle_each(transaction, priority, of_priority, progress)
    settled += _settle_packs(transaction, results, progress)
    overflow_queue.expire(transaction, now)
    overflow_queue.unpark(transaction, destination, limits)
    return settled


def _settle_run(
    transaction: Transaction, priority: Priority, results: Sequence[Settlement], progress: Progress
) -> bool:
    """Settle what is delivered without a gap, by the cursor alone; say whether it was that.

    Side by side, events are confirmed in any order, and one may have been withdrawn on its way: only the very same
    events are no gap, not as many.
    """
    if not all(isinstance(result, Delivered) for _, result in results):
        return False
    statements, destination = STATEMENTS[priority], progress.destination
    [(cursor,)] = transaction.rows(statements.cursor, destination)
    if transaction.rows(statements.has_exceptions, destination):
        return False
    sequences, events = sorted(delivery.sequence for delivery, _ in results), len(results)
    rows = transaction.rows(statements.next, destination=destination, cursor=cursor, limit=events)
    if [sequence for sequence, _ in rows] != sequences:
        return False
    transaction.run(statements.advance, destination=destination, reached=sequences[-1])
    transaction.run(statements.forget_skips, destination=destination)
    wait(transaction, destination, priority, -events, -sum(size for _, size in rows))
    gone = transaction.run(statements.clean_below)
    if gone < events:
        gone += len(transaction.rows(statements.clean, array(sequences)))
    count(transaction, priority, -gone)
    return True


def _settle_each(
    transaction: Transaction, priority: Priority, results: Sequence[Settlement], progress: Progress
) -> Sequence[Settlement]:
    statements, destination = STATEMENTS[priority], progress.destination
    pending: dict[int, int] = dict(
        transaction.rows(
            statements.pending,
            destination=destination,
            sequences=array([delivery.sequence for delivery, _ in results]),
        )
    )
    _advance(transaction, priority, results, progress)
    judged = [_judge(transaction, each, progress) for each in results]
    settled = [delivery.sequence for delivery, result in judged if not isinstance(result, Failed)]
    transaction.run(statements.settle_exceptions, destination, array(settled))
    gone = transaction.rows(statements.clean, array(settled))
    transaction.run_many(statements.drop_marks.replace("<mark>", "skip"), gone)
    transaction.run(statements.forget_skips, destination=destination)
    count(transaction, priority, -len(gone))
    sizes = [pending[sequence] for sequence in settled if sequence in pending]
    wait(transaction, destination, priority, -len(sizes), -sum(sizes))
    return judged


def _advance(transaction: Transaction, priority: Priority, results: Sequence[Settlement], progress: Progress) -> None:
    """Move the cursor to the newest of ``results``; what it passes and is not settled stays behind as exceptions.

    What is settled far ahead is marked there instead: behind a hanging event as many may wait as the queue takes.
    """
    statements, destination = STATEMENTS[priority], progress.destination
    [(cursor,)] = transaction.rows(statements.cursor, destination)
    settled = [delivery.sequence for delivery, result in results if not isinstance(result, Failed)]
    far = {sequence for sequence in settled if sequence > cursor + _MOST_PASSED}
    reached = max((delivery.sequence for delivery, _ in results if delivery.sequence not in far), default=cursor)
    if reached > cursor:
        transaction.run(
            statements.leave_behind,
            destination=destination,
            cursor=cursor,
            reached=reached,
            delivered=progress.before,
            settled=array(settled),
        )
    transaction.run(statements.advance, destination=destination, reached=reached)
    transaction.run(statements.skip, destination=destination, sequences=array([*far]))


def _judge(transaction: Transaction, settlement: Settlement, progress: Progress) -> Settlement:
    delivery, result = settlement
    statements, most_strikes = STATEMENTS[delivery.priority], progress.limits.strikes
    if isinstance(result, Failed):
        strikes = transaction.rows(
            statements.fail, destination=progress.destination, sequence=delivery.sequence, delivered=progress.after
        )
        if not strikes or strikes[0][0] < most_strikes:
            return settlement
        result = result.as_poison(most_strikes)
    if isinstance(result, Rejected):
        rejected = transaction.run(
            statements.reject,
            progress.destination,
            result.code,
            result.message,
            result.reply,
            delivery.attempts + 1,
            progress.now,
            delivery.sequence,
        )
        count(transaction, "rejected", rejected)
    return delivery, result


def _settle_packs(transaction: Transaction, results: Sequence[Settlement], progress: Progress) -> Sequence[Settlement]:
    judged = [
        reading_batches.settle(
            transaction,
            progress.destination,
            settlement,
            delivered=progress.after,
            most_strikes=progress.limits.strikes,
            now=progress.now,
        )
        for settlement in results
        if settlement[0].priority is Priority.READING
    ]
    return [settlement for settlement in judged if settlement is not None]
