"""What happens to the tables when a destination has answered."""

from collections.abc import Sequence

import orjson

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.store import Transaction

from .model import Delivered, Failed, Limits, Parcel, Rejected, Verdict
from .statements import STATEMENTS

type Settlement = tuple[Parcel, Verdict]


def settle(
    transaction: Transaction, destination: str, verdicts: Sequence[Settlement], limits: Limits
) -> Sequence[Settlement]:
    """Write down what became of some parcels; return the same, with poison turned into rejected."""
    delivered = sum(isinstance(verdict, Delivered) for _, verdict in verdicts)
    known = transaction.rows(
        "UPDATE outbox_destination SET delivered = delivered + ? WHERE name = ? RETURNING delivered",
        delivered,
        destination,
    )
    if not known:
        return ()
    [(now,)] = known
    settled: list[Settlement] = []
    for priority in Priority:
        of_priority = [settlement for settlement in verdicts if settlement[0].priority is priority]
        if of_priority:
            _advance(transaction, destination, priority, of_priority, now - delivered)
            judged = [_judge(transaction, destination, each, now, limits.strikes) for each in of_priority]
            _clean(transaction, destination, priority, judged)
            settled += judged
    return settled


def _advance(
    transaction: Transaction, destination: str, priority: Priority, verdicts: Sequence[Settlement], delivered: int
) -> None:
    """Move the cursor to the newest of ``verdicts``; what it passes and is not settled stays behind as exceptions."""
    statements = STATEMENTS[priority]
    reached = max(parcel.sequence for parcel, _ in verdicts)
    [(cursor,)] = transaction.rows(statements.cursor, destination)
    if reached > cursor:
        transaction.run(
            statements.leave_behind,
            destination=destination,
            cursor=cursor,
            reached=reached,
            delivered=delivered,
            settled=_array([parcel for parcel, verdict in verdicts if not isinstance(verdict, Failed)]),
        )
    transaction.run(statements.advance, destination=destination, reached=reached)


def _judge(
    transaction: Transaction, destination: str, settlement: Settlement, delivered: int, most_strikes: int
) -> Settlement:
    parcel, verdict = settlement
    statements = STATEMENTS[parcel.priority]
    if isinstance(verdict, Failed):
        strikes = transaction.rows(
            statements.fail, destination=destination, sequence=parcel.sequence, delivered=delivered
        )
        if not strikes or strikes[0][0] < most_strikes:
            return settlement
        verdict = Rejected(Code.POISON, f"failed {most_strikes} times while others passed: {verdict.reason}")
    if isinstance(verdict, Rejected):
        transaction.run(statements.reject, destination, verdict.code, verdict.message, parcel.sequence)
    return parcel, verdict


def _clean(transaction: Transaction, destination: str, priority: Priority, judged: Sequence[Settlement]) -> None:
    statements = STATEMENTS[priority]
    settled = _array([parcel for parcel, verdict in judged if not isinstance(verdict, Failed)])
    transaction.run(statements.settle_exceptions, destination, settled)
    transaction.run(statements.clean, settled)


def _array(parcels: Sequence[Parcel]) -> str:
    return orjson.dumps([parcel.sequence for parcel in parcels]).decode()
