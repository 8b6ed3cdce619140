"""Proposals: answers and acknowledgements from destinations, stored until the integration settles them."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

from process_cosmos_gateway.contract.alerts import Propose, Replica
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.durations import DEFAULT_ACKNOWLEDGEMENT, LONGEST_ANSWER_AGE
from process_cosmos_gateway.contract.identifiers import Ulid, join_names
from process_cosmos_gateway.store import Transaction

MOST_UNSETTLED = 1_000
"""Limit of proposals waiting for Home Assistant; beyond it, no more are fetched from destinations."""

REMEMBERED = 10_000
"""Number of newest proposals that are kept even when settled, so that repeats are recognised."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Proposal that is not yet settled; ``given_at`` is steady time."""

    id: str
    alert: Ulid
    given_at: float
    revision: int | None
    answer: str | None
    acknowledge_for: float | None
    by: str

    def to_message(self, now: float) -> Propose:
        """Return the message for the integration, with the age at ``now``."""
        return Propose(
            id=self.id,
            alert=self.alert,
            revision=self.revision,
            answer=self.answer,
            age=max(0.0, now - self.given_at),
            by=self.by,
            acknowledge_for=self.acknowledge_for,
        )

    def pauses_until(self, alert: Replica) -> float:
        """Return the steady time until which the proposal pauses notification requests; -inf: it does not.

        It pauses them only if the integration would accept it, judged by the replica.
        """
        revision = alert.revision if self.revision is None else self.revision
        if revision < alert.answers_from:
            return float("-inf")
        if self.answer is not None:
            return self.given_at + LONGEST_ANSWER_AGE if self.answer in alert.answers else float("-inf")
        return self.given_at + min(self.acknowledge_for or DEFAULT_ACKNOWLEDGEMENT, LONGEST_ANSWER_AGE)


def add(transaction: Transaction, item: InboxItem, destination: str, now: float) -> Proposal | None:
    """Store an inbox item as a proposal and delete old settled ones; return None if the item is a repeat."""
    proposal = Proposal(
        id=join_names(destination, item.id),
        alert=item.alert,
        given_at=now - max(0.0, item.age),
        revision=item.revision,
        answer=item.answer,
        acknowledge_for=item.acknowledge_for,
        by=item.by,
    )
    is_new = transaction.run(
        """
INSERT OR IGNORE INTO alert_proposal (id, alert, given_at, revision, answer, acknowledge_for, by)
VALUES (?, ?, ?, ?, ?, ?, ?)""",
        *astuple(proposal),
    )
    if not is_new:
        return None
    # Ordered by number: ``given_at`` is computed from the endpoint's age and does not tell which arrived first.
    transaction.run("DELETE FROM alert_proposal WHERE settled = 1 AND number <= ?", transaction.last_row() - REMEMBERED)
    return proposal


def settle(transaction: Transaction, proposal: str) -> None:
    """Mark a proposal as accepted or refused by the integration."""
    transaction.run("UPDATE alert_proposal SET settled = 1 WHERE id = ?", proposal)


def unsettled(transaction: Transaction) -> Sequence[Proposal]:
    """Return the proposals not yet settled, oldest first."""
    # The literal matches the partial index of unsettled proposals; thousands of settled ones are kept beside them.
    rows = transaction.rows("""
SELECT id, alert, given_at, revision, answer, acknowledge_for, by FROM alert_proposal
WHERE settled = 0 ORDER BY given_at""")
    return [Proposal(*row) for row in rows]


def count_unsettled(transaction: Transaction) -> int:
    """Return the number of proposals not yet settled."""
    count: int
    [(count,)] = transaction.rows("SELECT count(*) FROM alert_proposal WHERE settled = 0")
    return count
