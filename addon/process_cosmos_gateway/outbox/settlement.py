"""Settlement: apply the delivery results of a destination to the queues, as in AMQP."""

from collections.abc import Sequence
from dataclasses import dataclass

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.store import Transaction

from . import reading_batches
from .counters import add_to_backlog, add_to_counter, json_array
from .model import Delivered, Delivery, DeliveryResult, Failed, Limits, Rejected
from .statements import STATEMENTS

_MAX_ADVANCE = 4096
"""Sequence numbers that the cursor advances at most at once: each unsettled event it passes needs a row."""

type Settlement = tuple[Delivery, DeliveryResult]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The context of one settlement. ``before``, ``after``: events delivered to the destination before and after it."""

    destination: str
    before: int
    after: int
    now: float
    limits: Limits


def settle_deliveries(
    transaction: Transaction, destination: str, results: Sequence[Settlement], limits: Limits, now: float
) -> Sequence[Settlement]:
    """Apply delivery results and return them, with poison events as ``Rejected``.

    Results of an unknown destination or of an outdated reading batch are ignored and not returned.
    """
    delivered = sum(isinstance(result, Delivered) for _, result in results)
    known = transaction.rows(
        "UPDATE outbox_destination SET delivered = delivered + ? WHERE name = ? RETURNING delivered",
        delivered,
        destination,
    )
    # The destination was removed while the delivery was in flight.
    if not known:
        return ()
    after: int = known[0][0]
    progress = Progress(destination=destination, before=after - delivered, after=after, now=now, limits=limits)
    settled: list[Settlement] = []
    for priority in STATEMENTS:
        priority_results = [settlement for settlement in results if settlement[0].priority is priority]
        if priority_results and _settle_contiguous(transaction, priority, priority_results, progress):
            settled += priority_results
        elif priority_results:
            settled += _settle_each(transaction, priority, priority_results, progress)
    settled += _settle_reading_batches(transaction, results, progress)
    return settled


def _settle_contiguous(
    transaction: Transaction, priority: Priority, results: Sequence[Settlement], progress: Progress
) -> bool:
    """Settle by moving the cursor alone if exactly the next pending events were delivered; return whether they were.

    Parallel deliveries are confirmed in any order, and an event may be withdrawn while it is being sent. So compare the
    sequence numbers: an equal number of events is not enough.
    """
    if not all(isinstance(result, Delivered) for _, result in results):
        return False
    statements, destination = STATEMENTS[priority], progress.destination
    [(cursor,)] = transaction.rows(statements.cursor, destination)
    if transaction.rows(statements.has_exceptions, destination):
        return False
    sequences, events = sorted(delivery.sequence for delivery, _ in results), len(results)
    rows = transaction.rows(statements.next_rows, destination=destination, cursor=cursor, limit=events)
    if [sequence for sequence, _ in rows] != sequences:
        return False
    transaction.run(statements.advance_cursor, destination=destination, reached=sequences[-1])
    transaction.run(statements.delete_passed_skips, destination=destination)
    add_to_backlog(transaction, destination, priority, -events, -sum(size for _, size in rows))
    # A range of rowids: no row is examined. It stops short where another destination is further behind.
    deleted = transaction.run(statements.delete_settled_below)
    if deleted < events:
        deleted += len(transaction.rows(statements.delete_settled, json_array(sequences)))
    add_to_counter(transaction, priority, -deleted)
    return True


def _settle_each(
    transaction: Transaction, priority: Priority, results: Sequence[Settlement], progress: Progress
) -> Sequence[Settlement]:
    statements, destination = STATEMENTS[priority], progress.destination
    # Read first: after the following statements these events no longer count as pending.
    pending: dict[int, int] = dict(
        transaction.rows(
            statements.pending,
            destination=destination,
            sequences=json_array([delivery.sequence for delivery, _ in results]),
        )
    )
    # Before the results: a failure is counted in the row of the exception that this creates.
    _advance_cursor(transaction, priority, results, progress)
    applied = [_apply_result(transaction, each, progress) for each in results]
    settled = [delivery.sequence for delivery, result in applied if not isinstance(result, Failed)]
    transaction.run(statements.settle_exceptions, destination, json_array(settled))
    deleted = transaction.rows(statements.delete_settled, json_array(settled))
    transaction.run_many(statements.delete_marks.replace("<mark>", "skip"), deleted)
    transaction.run(statements.delete_passed_skips, destination=destination)
    add_to_counter(transaction, priority, -len(deleted))
    sizes = [pending[sequence] for sequence in settled if sequence in pending]
    add_to_backlog(transaction, destination, priority, -len(sizes), -sum(sizes))
    return applied


def _advance_cursor(
    transaction: Transaction, priority: Priority, results: Sequence[Settlement], progress: Progress
) -> None:
    """Move the cursor to the newest of ``results`` and record the unsettled events it passes as exceptions.

    Events settled far ahead of the cursor are marked as skipped instead: behind an event that hangs, the whole queue
    may be pending.
    """
    statements, destination = STATEMENTS[priority], progress.destination
    [(cursor,)] = transaction.rows(statements.cursor, destination)
    settled = [delivery.sequence for delivery, result in results if not isinstance(result, Failed)]
    far_ahead = {sequence for sequence in settled if sequence > cursor + _MAX_ADVANCE}
    reached = max((delivery.sequence for delivery, _ in results if delivery.sequence not in far_ahead), default=cursor)
    if reached > cursor:
        transaction.run(
            statements.record_exceptions,
            destination=destination,
            cursor=cursor,
            reached=reached,
            # So that a delivery in the same settlement turns a failure into a strike.
            delivered=progress.before,
            settled=json_array(settled),
        )
    transaction.run(statements.advance_cursor, destination=destination, reached=reached)
    transaction.run(statements.mark_skipped, destination=destination, sequences=json_array([*far_ahead]))


def _apply_result(transaction: Transaction, settlement: Settlement, progress: Progress) -> Settlement:
    delivery, result = settlement
    statements, max_strikes = STATEMENTS[delivery.priority], progress.limits.strikes
    if isinstance(result, Failed):
        strikes = transaction.rows(
            statements.count_failure,
            destination=progress.destination,
            sequence=delivery.sequence,
            delivered=progress.after,
        )
        if not strikes or strikes[0][0] < max_strikes:
            return settlement
        result = result.as_poison(max_strikes)
    if isinstance(result, Rejected):
        # The copy precedes ``delete_settled``, which deletes the original; both are in one transaction.
        rejected = transaction.run(
            statements.copy_to_rejected,
            progress.destination,
            result.code,
            result.message,
            result.reply,
            delivery.attempts + 1,
            progress.now,
            delivery.sequence,
        )
        add_to_counter(transaction, "rejected", rejected)
    return delivery, result


def _settle_reading_batches(
    transaction: Transaction, results: Sequence[Settlement], progress: Progress
) -> Sequence[Settlement]:
    applied = [
        reading_batches.settle_batch(
            transaction,
            progress.destination,
            settlement,
            delivered=progress.after,
            max_strikes=progress.limits.strikes,
            now=progress.now,
        )
        for settlement in results
        if settlement[0].priority is Priority.READING
    ]
    return [settlement for settlement in applied if settlement is not None]
