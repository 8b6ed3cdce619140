"""Limits of the gateway: an interrupted first session, many alerts, numbers out of range."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from process_cosmos_gateway.alerts import replica
from process_cosmos_gateway.alerts.transition_processor import TransitionProcessor
from process_cosmos_gateway.contract.alerts import AlertState, Transition, TransitionKind
from process_cosmos_gateway.contract.cloud import InboxPage
from process_cosmos_gateway.contract.codec import MAX_FRAME, encode, parse
from process_cosmos_gateway.contract.errors import ContractError
from process_cosmos_gateway.contract.session import GatewayHello
from process_cosmos_gateway.contract.versions import MIN_SCHEMA, SCHEMA
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Transaction
from tests.gateway.store.parts import HandClock

from .parts import LEAK, ULIDS, Gateway, gateway, key, request

OPENED = TransitionKind.OPENED

type Row = tuple[Any, ...]


async def test_requests_are_sent_after_a_restart_that_follows_an_interrupted_first_session(
    tmp_path: Path, clock: HandClock
) -> None:
    async with gateway(tmp_path, clock) as first:
        await first.opens_session(catches_up=False)
        await first.records_change(OPENED, [request(key(), due=10)])
    async with gateway(tmp_path, clock) as second:
        assert second.alerts.may_deliver()
        await second.passes(60)
        assert await second.requested() == [(1, 0, 0)]


async def test_the_config_entry_is_stored_with_the_first_transition_and_not_by_a_session_without_any(
    tmp_path: Path, clock: HandClock
) -> None:
    async with gateway(tmp_path, clock) as first:
        await first.opens_session(catches_up=False, entry="cellar")
        assert first.alerts.entry is None
        await first.records_change(OPENED)
        assert first.alerts.entry == "cellar"
        await first.opens_session(catches_up=False, entry="attic")
        await first.opens_session(catches_up=True)
    async with gateway(tmp_path, clock) as second:
        assert second.alerts.entry == "cellar"
        await second.opens_session(entry="attic")
        assert second.alerts.entry == "attic"


async def test_the_gateway_hello_fits_into_a_frame_with_any_number_of_alerts(site: Gateway) -> None:
    alerts = [ULIDS() for _ in range(300)]
    for number, one in enumerate(alerts):
        state = AlertState.OPEN if number % 2 else AlertState.RESOLVED
        await site.records_change(OPENED, id=one, state=state, message="Wörter" * 1500)
    cursor, summaries = await site.alerts.cursor_and_summaries()
    hello = GatewayHello(
        schema=SCHEMA,
        min_schema=MIN_SCHEMA,
        version="1.0.0",
        site=ULIDS(),
        epoch=ULIDS(),
        cursor=cursor,
        summaries=summaries,
    )
    assert len(encode(hello)) <= MAX_FRAME
    assert summaries[0].alert == alerts[-1]  # the newest alive one first


@pytest.mark.parametrize("number", [1 << 63, -(1 << 63) - 1])
async def test_an_inbox_item_with_a_number_beyond_64_bits_violates_the_contract(number: int) -> None:
    item = {"id": "item", "cursor": 1, "alert": LEAK, "by": "Eve", "age": 0, "revision": number, "answer": "turn_on"}
    with pytest.raises(ContractError):
        parse(InboxPage, {"items": [item]})


async def test_finding_queued_requests_does_not_scan_those_of_closed_alerts(site: Gateway) -> None:
    plan: list[Row] = []

    class Explaining:
        """Transaction that collects the query plan of each statement."""

        def __init__(self, transaction: Transaction) -> None:
            self._transaction = transaction

        def rows(self, sql: str, *values: str) -> list[Row]:
            plan.extend(self._transaction.rows(f"EXPLAIN QUERY PLAN {sql}", *values))
            return []

    await site.store.read(
        lambda transaction: replica.queued_for(cast("Transaction", Explaining(transaction)), "destination:cloud")
    )
    assert plan
    assert not any("SCAN" in row[-1] for row in plan), orjson.dumps(plan)


async def test_a_long_log_is_applied_without_checking_all_alerts_for_each_record(
    site: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0
    process = site.alerts.process_due_requests

    async def counted() -> float | None:
        nonlocal checks
        checks += 1
        return await process()

    await site.opens_session(catches_up=False)
    running = asyncio.create_task(site.alerts.run())
    sent = await site.records_change(OPENED, [request(key(), due=1)])
    monkeypatch.setattr(site.alerts, "process_due_requests", counted)
    for n in range(2, 52):
        await site.alerts.apply(replace(sent, position=replace(sent.position, n=n)))
    assert checks < 5
    await site.alerts.caught_up()
    site.clock.advance(1)
    async with asyncio.timeout(20):
        while await site.requested() != [(1, 0, 0)]:
            pass
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_transitions_applied_together_are_committed_together(
    site: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await site.records_change(OPENED)
    second, third = (replace(first, position=replace(first.position, n=n)) for n in (2, 3))
    apply = TransitionProcessor.apply

    def fails_at_the_third(work: TransitionProcessor, transaction: Transaction, transition: Transition) -> None:
        apply(work, transaction, transition)
        if transition is third:
            raise StoreError

    with monkeypatch.context() as patched:
        patched.setattr(TransitionProcessor, "apply", fails_at_the_third)
        with pytest.raises(StoreError):
            await site.alerts.apply(second, third)
    assert (await site.alerts.cursor_and_summaries())[0] == first.position
    await site.alerts.apply(second, third)
    assert (await site.alerts.cursor_and_summaries())[0] == third.position


async def test_old_closed_alerts_are_deleted_during_a_long_session(site: Gateway) -> None:
    old, new = ULIDS(), ULIDS()
    await site.records_change(OPENED, [request(key(alert=old))], id=old)
    await site.records_change(TransitionKind.RESOLVED, id=old, state=AlertState.RESOLVED)
    await site.passes(31 * 86400, alive=True)
    await site.records_change(OPENED, id=new)
    await site.records_change(TransitionKind.RESOLVED, id=new, state=AlertState.RESOLVED)
    assert [summary.alert for summary in (await site.alerts.cursor_and_summaries())[1]] == [new]
    assert await site.store.read(lambda transaction: transaction.rows("SELECT * FROM notification_request")) == []
