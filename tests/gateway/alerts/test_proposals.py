"""Proposals from destinations, until the integration has settled them."""

from pathlib import Path

import pytest

from process_cosmos_gateway.alerts import proposals
from process_cosmos_gateway.contract.alerts import AlertState, Propose, TransitionKind
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.session import Problem, Result
from process_cosmos_gateway.store import Transaction
from tests.gateway.store.parts import HandClock
from tests.gateway.store.plans import Explained

from .parts import LEAK, Gateway, gateway, key, request

OPENED, UPDATED = TransitionKind.OPENED, TransitionKind.UPDATED


async def test_an_answer_from_a_destination_is_proposed_with_its_age(site: Gateway) -> None:
    await site.records_change(OPENED)
    proposal = await site.proposes(answer="keep_off", revision=1, age=5.0)
    assert site.sent == [
        Propose(id=proposal, alert=LEAK, revision=1, answer="keep_off", age=5.0, by="Eve", acknowledge_for=None)
    ]


async def test_the_age_of_a_proposal_counts_until_it_is_sent(site: Gateway) -> None:
    def add(transaction: Transaction) -> None:
        item = InboxItem(id="item", cursor=1, alert=LEAK, by="Eve", age=5.0, answer="keep_off", revision=1)
        site.alerts.add_proposals(transaction, [item], "cloud")
        site.clock.advance(3)  # the commit takes long

    await site.records_change(OPENED)
    await site.store.write(add)
    [sent] = site.sent
    assert isinstance(sent, Propose)
    assert sent.age == 8.0


async def test_a_repeated_item_is_ignored(site: Gateway) -> None:
    await site.records_change(OPENED)
    proposal = await site.proposes(answer="keep_off")
    await site.proposes(answer="keep_off")
    assert site.proposed() == [proposal]
    await site.alerts.settle(Result(id=proposal))
    await site.proposes(answer="keep_off")
    assert site.proposed() == [proposal]


async def test_a_proposal_is_sent_again_in_each_session_until_a_record_settles_it(site: Gateway) -> None:
    await site.records_change(OPENED)
    proposal = await site.proposes(answer="keep_off")
    await site.opens_session()
    assert site.proposed() == [proposal]
    await site.records_change(
        TransitionKind.ANSWERED, state=AlertState.ANSWERED, by="Eve", answer="keep_off", proposal=proposal
    )
    await site.opens_session()
    assert site.proposed() == []


async def test_a_proposal_refused_without_a_record_is_settled_too(site: Gateway) -> None:
    proposal = await site.proposes(answer="keep_off")
    problem = Problem(code="unknown_alert", message="There is no such alert.")
    await site.alerts.settle(Result(id=proposal, problem=problem))
    await site.opens_session()
    assert site.proposed() == []


async def test_a_proposal_survives_a_restart_and_waits_for_home_assistant(tmp_path: Path, clock: HandClock) -> None:
    async with gateway(tmp_path, clock) as first:
        await first.opens_session()
        await first.records_change(OPENED)
        first.alerts.session_closed(announced=False)
        proposal = await first.proposes(answer="keep_off")
        assert first.sent == []
    clock.advance(100)
    async with gateway(tmp_path, clock) as second:
        await second.opens_session()
        [sent] = second.sent
        assert isinstance(sent, Propose)
        assert (sent.id, sent.age) == (proposal, 100.0)


async def test_a_proposal_lost_before_its_commit_is_fetched_again_with_the_same_id(site: Gateway) -> None:
    await site.records_change(OPENED)

    def broken(_: object) -> None:
        raise ValueError("the cursor could not be written")

    with pytest.raises(ValueError, match="cursor"):
        await site.store.write(broken)
    assert await site.proposes(answer="keep_off") == await site.proposes(answer="keep_off")
    assert len(site.proposed()) == 1


@pytest.mark.parametrize(
    ("answer", "pauses"),
    [
        ({"answer": "keep_off"}, True),
        ({"answer": "keep_off", "revision": 2}, True),
        ({"answer": "keep_off", "revision": 1}, False),
        ({"answer": "keep_off", "age": 86400.0}, False),
        ({"answer": "never offered"}, False),
        ({"acknowledge_for": 3600.0}, True),
        ({"acknowledge_for": 3600.0, "revision": 1}, False),
        ({"acknowledge_for": 300.0, "age": 300.0}, False),
        ({}, True),
        ({"age": 3500.0}, False),
    ],
)
async def test_a_proposal_pauses_requests_only_if_it_would_be_accepted(
    site: Gateway, answer: dict[str, object], *, pauses: bool
) -> None:
    await site.records_change(UPDATED, [request(key(revision=2), due=100)], revision=2, answers_from=2)
    await site.goes_away()
    await site.proposes(**answer)
    await site.passes(100)
    assert await site.requested() == ([] if pauses else [(2, 0, 0)])


async def test_requests_continue_once_a_proposal_is_refused(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=10)])
    proposal = await site.proposes(answer="keep_off")
    await site.passes(10, alive=True)
    assert await site.requested() == []
    await site.alerts.settle(Result(id=proposal, problem=Problem(code="not_allowed", message="No.")))
    await site.alerts.process_due_requests()
    assert await site.requested() == [(1, 0, 0)]


async def test_an_acknowledgement_from_a_destination_pauses_requests_until_its_end(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=10)])
    await site.goes_away()
    await site.proposes(acknowledge_for=600.0, age=100.0)
    assert await site.requested() == [(1, 0, 0)]
    await site.delivers()
    await site.records_change(UPDATED, [request(key(revision=2))], revision=2)
    assert await site.requested() == []
    await site.passes(499)
    assert await site.requested() == []
    await site.passes(1)
    assert await site.requested() == [(2, 0, 0)]


async def test_waiting_and_remembered_answers_are_bounded(site: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proposals, "MOST_UNSETTLED", 2)
    monkeypatch.setattr(proposals, "REMEMBERED", 4)
    await site.records_change(OPENED)
    sent = []
    for number in range(5):
        assert await site.store.read(site.alerts.has_room)
        sent.append(await site.proposes(id=f"i{number}", answer="keep_off", age=float(5 + number)))
        await site.alerts.settle(Result(id=sent[-1]))
    sent += [await site.proposes(id=f"i{number}", answer="keep_off") for number in (5, 6)]
    assert not await site.store.read(site.alerts.has_room)

    known = await site.store.read(lambda transaction: transaction.rows("SELECT id FROM alert_proposal"))
    assert sorted(identifier for (identifier,) in known) == sorted(sent[3:])


async def test_answers_of_two_destinations_are_distinct_however_their_names_join(site: Gateway) -> None:
    def add_twice(transaction: Transaction) -> None:
        for identifier, destination in [("a@b", "c"), ("a", "b@c"), ("a", "c/b"), ("b/a", "c"), ("b%2Fa", "c")]:
            item = InboxItem(id=identifier, cursor=1, alert=LEAK, by="Eve", age=0.0, answer="keep_off")
            site.alerts.add_proposals(transaction, [item, item], destination)

    await site.store.write(add_twice)
    assert len(site.proposed()) == 5


def test_adding_an_answer_does_not_scan_the_remembered_ones() -> None:
    transaction = Explained()
    item = InboxItem(id="1", cursor=1, alert=LEAK, by="Eve", age=0.0, answer="keep_off")
    assert proposals.add(transaction, item, "cloud", 0.0)
    deletes = [steps for sql, steps in transaction.plans.items() if sql.startswith("DELETE")]
    assert deletes == [["SEARCH alert_proposal USING INDEX alert_proposal_settled (number<?)"]]
    transaction.ran.clear()
    assert proposals.add(transaction, item, "cloud", 0.0) is None
    assert len(transaction.ran) == 1, "a repeat runs only the INSERT"
