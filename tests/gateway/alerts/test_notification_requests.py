"""Notification requests: sent when due, withdrawn and paused, also across restarts."""

import asyncio
from pathlib import Path

import orjson
import pytest

from process_cosmos_gateway.alerts.events import request_event_id
from process_cosmos_gateway.contract.alerts import AlertState, Notified, TransitionKind
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.identifiers import is_ulid
from process_cosmos_gateway.outbox import Delivered, Rejected
from tests.gateway.store.parts import HandClock

from .parts import LEAK, ULIDS, Gateway, gateway, key, request

OPENED, UPDATED, ACKNOWLEDGED, RESCHEDULED = (
    TransitionKind.OPENED,
    TransitionKind.UPDATED,
    TransitionKind.ACKNOWLEDGED,
    TransitionKind.RESCHEDULED,
)


async def test_every_transition_reaches_every_destination_at_once(site: Gateway) -> None:
    sent = await site.records_change(OPENED)
    for destination in ("cloud", "hook"):
        [delivery] = await site.outbox.deliveries(destination, 10)
        document = orjson.loads(delivery.body)
        assert (document["type"], document["id"]) == ("process_cosmos.alert.opened.v1", sent.changes[0].event)
        assert (document["subject"], document["data"]["message"]) == (LEAK, "Water under the sink")
        assert delivery.priority == "urgent"


async def test_a_transition_sent_again_changes_nothing(site: Gateway) -> None:
    sent = await site.records_change(OPENED)
    await site.records_change(UPDATED, [request(key(revision=2))], revision=2)
    await site.alerts.apply(sent)
    assert await site.types() == ["opened", "updated", "notification_requested"]
    cursor, [summary] = await site.alerts.cursor_and_summaries()
    assert cursor is not None
    assert (cursor.n, summary.revision, summary.message) == (2, 2, "Water under the sink")


async def test_a_request_is_sent_to_its_destination_alone_when_due(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=10)])
    await site.passes(9, alive=True)
    assert await site.requested() == []
    await site.passes(1, alive=True)
    assert await site.requested() == [(1, 0, 0)]
    assert await site.requested("hook") == []


async def test_the_event_id_of_a_request_is_derived_from_its_key() -> None:
    assert is_ulid(request_event_id(key()))
    assert request_event_id(key())[:10] == LEAK[:10]
    others = {key(), key(1), key(number=1), key(revision=2), key(to="hook"), key(alert=ULIDS())}
    assert len({request_event_id(each) for each in others}) == len(others)


@pytest.mark.parametrize("reached", [True, False])
async def test_the_outcome_of_a_request_is_sent_to_home_assistant(site: Gateway, reached: bool) -> None:  # noqa: FBT001
    await site.records_change(OPENED, [request(key())])
    await (site.delivers() if reached else site.fails())
    assert site.outcomes() == {key(): reached}


async def test_a_late_success_replaces_a_failure(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key())])
    await site.fails()
    await site.passes(1, alive=True)
    while await site.delivers():
        pass
    assert [(message.key, message.reached) for message in site.sent if isinstance(message, Notified)] == [
        (key(), False),
        (key(), True),
    ]


async def test_a_request_delivered_after_its_withdrawal_and_listed_again_is_not_sent_twice(site: Gateway) -> None:
    await site.opens_session()
    await site.records_change(OPENED, [request(key())])
    on_its_way = await site.outbox.deliveries("cloud", 9)
    await site.records_change(RESCHEDULED, [])
    await site.records_change(RESCHEDULED, [request(key(), due=5)])
    await site.outbox.settle("cloud", [(delivery, Delivered()) for delivery in on_its_way])
    await site.passes(6, alive=True)
    assert site.outcomes() == {key(): True}
    assert await site.requested() == []


async def test_a_rejected_request_counts_as_not_reached(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key())])
    await site.answers(Rejected("refused_by_destination", "no"))
    assert site.outcomes() == {key(): False}


async def test_requests_on_a_failed_link_fail_at_once_and_may_be_delivered_later(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key()), request(key(1), due=5)])
    await site.outbox.mark_unreachable("cloud")
    assert site.outcomes() == {key(): False}
    await site.passes(5, alive=True)
    assert site.outcomes() == {key(): False, key(1): False}
    await site.delivers()
    assert site.outcomes() == {key(): True, key(1): True}


async def test_a_request_for_an_unknown_destination_fails_at_once(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(to="nobody"))])
    assert site.outcomes() == {key(to="nobody"): False}


async def test_outcomes_are_sent_again_in_each_session_while_the_alert_is_alive(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key())])
    site.alerts.session_closed(announced=False)
    await site.delivers()
    assert site.outcomes() == {}
    await site.passes(7)
    await site.opens_session(catches_up=False)
    assert site.sent == []
    await site.alerts.caught_up()
    assert site.outcomes() == {key(): True}
    assert [message.age for message in site.sent] == [7.0]
    await site.records_change(TransitionKind.RESOLVED, state=AlertState.RESOLVED)
    await site.opens_session()
    assert site.sent == []


async def test_a_newer_list_replaces_the_older_one(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=0), request(key(1), due=600)])
    await site.records_change(UPDATED, [request(key(revision=2), due=30)], revision=2)
    assert await site.types() == ["opened", "updated"]  # the queued request was withdrawn
    await site.passes(30, alive=True)
    assert await site.requested() == [(2, 0, 0)]
    await site.passes(600, alive=True)
    assert await site.requested() == [(2, 0, 0)]


async def test_a_record_without_a_list_leaves_the_requests_unchanged(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=10)])
    await site.records_change(TransitionKind.ACKNOWLEDGEMENT_EXPIRED)
    await site.passes(10, alive=True)
    assert await site.requested() == [(1, 0, 0)]


async def test_a_changed_due_time_applies_and_a_delivered_key_is_not_sent_again(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key()), request(key(1), due=600)])
    await site.fails()
    await site.records_change(RESCHEDULED, [request(key()), request(key(1), due=0)])
    assert await site.requested() == [(1, 0, 0), (1, 1, 0)]
    await site.passes(1, alive=True)
    while await site.delivers():
        pass
    await site.records_change(RESCHEDULED, [request(key()), request(key(1))])
    assert await site.requested() == []


async def test_closing_drops_all_requests_and_withdraws_the_queued_ones(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key()), request(key(1), due=60)])
    assert await site.types() == ["opened", "notification_requested"]
    await site.records_change(TransitionKind.ANSWERED, state=AlertState.ANSWERED, by="Eve", answer="keep_off")
    assert await site.types() == ["opened", "answered"]
    await site.passes(3600, alive=True)
    assert await site.requested() == []


async def test_requests_pause_during_an_acknowledgement_and_resume_after_it_without_a_message(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=100)])
    await site.records_change(
        ACKNOWLEDGED, [request(key(revision=2), due=3600)], revision=2, state=AlertState.ACKNOWLEDGED, notify_in=3600.0
    )
    await site.goes_away()
    await site.passes(3539)
    assert await site.requested() == []
    await site.passes(1)
    assert await site.requested() == [(2, 0, 0)]
    [delivery] = [
        delivery
        for delivery in await site.outbox.deliveries("cloud", 10)
        if delivery.type.endswith("notification_requested.v1")
    ]
    assert orjson.loads(delivery.body)["data"]["state"] == "open"


async def test_no_request_is_sent_after_the_alert_closes_as_unanswered(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=100)], until_in=50.0)
    await site.passes(200, alive=True)
    assert await site.requested() == []


async def test_missed_rounds_are_replaced_by_the_newest(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(number=number), due=300.0 * number) for number in range(4)])
    await site.delivers()
    await site.passes(700, alive=True)
    assert await site.requested() == [(1, 0, 2)]


async def test_a_newer_round_withdraws_a_queued_one(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(number=number), due=300.0 * number) for number in range(3)])
    assert await site.requested() == [(1, 0, 0)]
    await site.passes(300, alive=True)
    assert await site.requested() == [(1, 0, 1)]


async def test_rounds_keep_a_minute_between_them_however_late_one_was_delivered(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(number=number), due=300.0 * number) for number in range(2)])
    await site.passes(290, alive=True)
    await site.delivers()
    await site.passes(10, alive=True)
    assert await site.requested() == []
    await site.passes(50, alive=True)
    assert await site.requested() == [(1, 0, 1)]


async def test_missed_levels_are_notified_once_in_order(site: Gateway) -> None:
    requests = [
        request(key(level, number), due=600.0 * level + 300.0 * number) for level in range(3) for number in range(2)
    ]
    await site.records_change(OPENED, requests)
    await site.delivers()
    await site.passes(3600, alive=True)
    assert await site.requested() == [(1, 0, 1), (1, 1, 1), (1, 2, 1)]


async def test_a_session_that_catches_up_holds_back_requests_and_deliveries(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=10)])
    await site.opens_session(catches_up=False)
    assert not site.alerts.may_deliver()
    await site.passes(20, alive=True)
    assert await site.requested() == []
    delivering = asyncio.create_task(site.alerts.until_may_deliver())
    await asyncio.sleep(0)
    assert not delivering.done()
    await site.alerts.caught_up()
    await asyncio.wait_for(delivering, 20)
    await site.alerts.process_due_requests()
    assert await site.requested() == [(1, 0, 0)]


async def test_a_late_caught_up_of_an_ended_session_permits_nothing(site: Gateway) -> None:
    await site.opens_session(catches_up=False)
    late = asyncio.create_task(site.alerts.caught_up())
    await asyncio.sleep(0)
    site.alerts.session_closed(announced=False)
    await site.opens_session(catches_up=False)
    await late
    assert not site.alerts.may_deliver()


async def test_home_assistant_is_away_a_minute_after_its_last_receipt(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key(), due=1000, away=30)])
    await site.passes(59, alive=True)
    await site.passes(59)
    assert await site.requested() == []
    await site.passes(1)
    assert await site.requested() == [(1, 0, 0)]


async def test_after_an_announced_stop_home_assistant_has_five_minutes_even_across_a_restart(
    tmp_path: Path, clock: HandClock
) -> None:
    async with gateway(tmp_path, clock) as first:
        await first.opens_session()
        await first.records_change(OPENED, [request(key(), due=1000, away=30)])
        first.alerts.session_closed(announced=True)
        await first.passes(200)
        assert await first.requested() == []
    async with gateway(tmp_path, clock) as second:
        await second.passes(299)
        assert await second.requested() == []
        await second.passes(1)
        assert await second.requested() == [(1, 0, 0)]


async def test_a_level_that_reached_nobody_makes_the_next_due_while_home_assistant_is_away(site: Gateway) -> None:
    await site.records_change(
        OPENED,
        [request(key(0, number, to=to), due=300.0 * number) for number in range(3) for to in ("cloud", "hook")]
        + [request(key(1, number), due=3600.0 + 300 * number) for number in range(3)]
        + [request(key(2, to="hook"), due=7200.0)],
    )
    await site.goes_away()
    await site.fails()
    assert await site.requested() == [(1, 0, 0)]  # the webhook may still be reached
    await site.outbox.mark_unreachable("hook")
    await site.alerts.process_due_requests()
    assert (1, 1, 0) in await site.requested()
    assert (1, 2, 0) not in await site.requested("hook")


async def test_a_level_that_reached_nobody_changes_nothing_while_home_assistant_is_present(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key()), request(key(1), due=3600.0)])
    await site.fails()
    await site.passes(30, alive=True)
    assert (1, 1, 0) not in await site.requested()


async def test_requests_and_outcomes_survive_a_restart(tmp_path: Path, clock: HandClock) -> None:
    async with gateway(tmp_path, clock) as first:
        await first.opens_session()
        await first.records_change(OPENED, [request(key()), request(key(1), due=600)])
        await first.delivers()
    clock.advance(599)
    async with gateway(tmp_path, clock, records=1) as second:
        await second.opens_session()
        assert second.outcomes() == {key(): True}
        await second.alerts.process_due_requests()
        assert await second.requested() == []
        await second.passes(1, alive=True)
        assert await second.requested() == [(1, 1, 0)]


@pytest.mark.parametrize("jump", [10 * 365 * 86400.0, 3600.0, -3600.0])
async def test_setting_the_clock_does_not_affect_timers(site: Gateway, clock: HandClock, jump: float) -> None:
    await site.records_change(OPENED, [request(key(), due=600)])
    await site.passes(300, alive=True)
    clock.set_wall(jump)
    await site.passes(299, alive=True)
    assert await site.requested() == []
    await site.passes(1, alive=True)
    assert await site.requested() == [(1, 0, 0)]


async def test_timers_continue_after_a_start_with_a_clock_before_the_last_commit(
    tmp_path: Path, clock: HandClock
) -> None:
    async with gateway(tmp_path, clock) as first:
        await first.opens_session()
        await first.records_change(OPENED, [request(key(), due=600)])
        await first.passes(60, alive=True)
    clock.set_wall(-20 * 365 * 86400.0)
    async with gateway(tmp_path, clock) as second:
        await second.opens_session()
        await second.passes(539, alive=True)
        assert await second.requested() == []
        clock.set_wall(20 * 365 * 86400.0)
        await second.passes(1, alive=True)
        assert await second.requested() == [(1, 0, 0)]


async def test_a_restored_store_neither_notifies_nor_delivers_before_it_has_caught_up(
    tmp_path: Path, clock: HandClock
) -> None:
    async with gateway(tmp_path, clock) as first:
        await first.opens_session()
        await first.records_change(OPENED, [request(key(), due=10)])
        epoch = ULIDS()
        await first.store.write(
            lambda transaction: transaction.run("UPDATE meta SET value = ? WHERE key = 'epoch'", epoch)
        )
    async with gateway(tmp_path, clock) as restored:
        assert not restored.alerts.may_deliver()
        await restored.passes(3600)
        assert await restored.requested() == []
        await restored.opens_session()
        await restored.alerts.process_due_requests()
        assert restored.alerts.may_deliver()
        assert await restored.requested() == [(1, 0, 0)]


async def test_a_new_destination_receives_the_alive_alerts(site: Gateway) -> None:
    closed = ULIDS()
    await site.records_change(OPENED, id=closed)
    await site.records_change(TransitionKind.RESOLVED, id=closed, state=AlertState.RESOLVED)
    await site.records_change(OPENED)
    updated = await site.records_change(UPDATED, revision=2)
    await site.outbox.register("new", (EventKind.ALERT,))
    [delivery] = await site.outbox.deliveries("new", 10)
    document = orjson.loads(delivery.body)
    assert (delivery.id, document["data"]["revision"]) == (updated.changes[0].event, 2)
    assert document["data"]["alert"] == LEAK


async def test_closed_alerts_are_deleted_after_a_month(site: Gateway) -> None:
    await site.records_change(OPENED, [request(key())])
    await site.records_change(TransitionKind.RESOLVED, state=AlertState.RESOLVED)
    await site.opens_session()
    assert len((await site.alerts.cursor_and_summaries())[1]) == 1
    site.clock.advance(31 * 86400)
    await site.opens_session()
    assert (await site.alerts.cursor_and_summaries())[1] == ()


async def test_the_service_sends_requests_when_they_are_due(site: Gateway) -> None:
    running = asyncio.create_task(site.alerts.run())
    await site.records_change(OPENED, [request(key(), due=10)])
    site.clock.advance(10)
    async with asyncio.timeout(20):
        await site.delivers()
        while not site.outcomes():
            await site.outbox.wait_for_events("cloud")
            deliveries = await site.outbox.deliveries("cloud", 10)
            await site.outbox.settle("cloud", [(delivery, Delivered()) for delivery in deliveries])
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert site.outcomes() == {key(): True}
