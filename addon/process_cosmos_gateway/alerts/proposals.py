"""Answers and acknowledgements from outside, until the integration has settled them."""

from collections.abc import Sequence
from dataclasses import dataclass

from process_cosmos_gateway.contract.alerts import Propose, Replica
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.identifiers import Ulid, join_names
from process_cosmos_gateway.store import Transaction

LONGEST_PAUSE = 24 * 3600.0
"""Seconds: the integration takes nothing older than this."""

ACKNOWLEDGED_FOR = 3600.0
"""Seconds an acknowledgement lasts that does not say so itself; the integration has the same."""

MOST_UNSETTLED = 1_000
"""Proposals that wait for Home Assistant; further ones are left where they are."""

REMEMBERED = 10_000
"""The newest proposals, of which settled ones are remembered too, so that one that comes again is known."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposal not yet settled; ``given_at`` is steady time."""

    id: str
    alert: Ulid
    given_at: float
    revision: int | None
    answer: str | None
    acknowledge_for: float | None
    by: str

    def message(self, now: float) -> Propose:
        """Return what the integration is sent."""
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
        """Return until when nobody further is asked: the integration would record this, as far as is known here."""
        revision = alert.revision if self.revision is None else self.revision
        if revision < alert.answers_from:
            return float("-inf")
        if self.answer is not None:
            return self.given_at + LONGEST_PAUSE if self.answer in alert.answers else float("-inf")
        return self.given_at + min(self.acknowledge_for or ACKNOWLEDGED_FOR, LONGEST_PAUSE)


def take(transaction: Transaction, item: InboxItem, destination: str, now: float) -> Proposal | None:
    """Keep an inbox item as a proposal, and forget the settled ones that are old; return None if it came before."""
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
        proposal.id,
        proposal.alert,
        proposal.given_at,
        proposal.revision,
        proposal.answer,
        proposal.acknowledge_for,
        proposal.by,
    )
    if not is_new:
        return None
    # The endpoint says when an answer was given, so that says nothing about which came first.
    transaction.run("DELETE FROM alert_proposal WHERE settled = 1 AND number <= ?", transaction.last_row() - REMEMBERED)
    return proposal


def settle(transaction: Transaction, proposal: str) -> None:
    """Note that the integration has recorded or refused it."""
    transaction.run("UPDATE alert_proposal SET settled = 1 WHERE id = ?", proposal)


def unsettled(transaction: Transaction) -> Sequence[Proposal]:
    """Return what waits for the integration's word, oldest first."""
    rows = transaction.rows("""
SELECT id, alert, given_at, revision, answer, acknowledge_for, by FROM alert_proposal
WHERE settled = 0 ORDER BY given_at""")
    return [Proposal(*row) for row in rows]


def count_unsettled(transaction: Transaction) -> int:
    """Return how many wait for the integration's word."""
    count: int
    [(count,)] = transaction.rows("SELECT count(*) FROM alert_proposal WHERE settled = 0")
    return count
