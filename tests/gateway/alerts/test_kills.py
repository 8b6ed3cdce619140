"""Process kills around a commit: before it, and between it and the message about it."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.alerts import TransitionKind
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.outbox import Delivered
from process_cosmos_gateway.store import Transaction
from tests.gateway.store.parts import HandClock

from .parts import Gateway, gateway, key, leak_opened, request

WITHIN = 20

CHILD = """
import asyncio, sys
from pathlib import Path
from tests.gateway.alerts import test_kills

asyncio.run(getattr(test_kills, sys.argv[1])(Path(sys.argv[2])))
"""
EVENT = Ulid("01KAP3C0000000000000000000")


def die_after_commit(site: Gateway) -> None:
    """Make the next write kill the process right after its commit, before any message is sent."""
    write = site.store.write

    async def write_and_die[T](change: Callable[[Transaction], T]) -> T:
        def deadly(transaction: Transaction) -> T:
            transaction.after_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
            return change(transaction)

        return await write(deadly)

    site.store.write = write_and_die  # type: ignore[method-assign]


def die_before_commit(site: Gateway) -> None:
    """Make the next write kill the process right before its commit."""
    write = site.store.write

    async def write_and_die[T](change: Callable[[Transaction], T]) -> T:
        def deadly(transaction: Transaction) -> T:
            change(transaction)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

        return await write(deadly)

    site.store.write = write_and_die  # type: ignore[method-assign]


async def die_before_the_transition_is_committed(folder: Path) -> None:
    async with gateway(folder, HandClock()) as site:
        await site.opens_session()
        die_before_commit(site)
        await site.alerts.apply(leak_opened(EVENT, [request(key())]))
        print("receipt", flush=True)  # noqa: T201


async def die_before_the_receipt(folder: Path) -> None:
    async with gateway(folder, HandClock()) as site:
        await site.opens_session()
        die_after_commit(site)
        await site.alerts.apply(leak_opened(EVENT, [request(key())]))
        print("receipt", flush=True)  # noqa: T201


async def die_before_the_outcome_is_sent(folder: Path) -> None:
    async with gateway(folder, HandClock()) as site:
        await site.opens_session()
        await site.alerts.apply(leak_opened(EVENT, [request(key())]))
        await site.alerts.process_due_requests()
        deliveries = await site.outbox.deliveries("cloud", 10)
        die_after_commit(site)
        await site.outbox.settle("cloud", [(delivery, Delivered()) for delivery in deliveries])
        print(site.outcomes(), flush=True)  # noqa: T201


async def die_before_the_delivery_is_settled(folder: Path) -> None:
    async with gateway(folder, HandClock()) as site:
        await site.opens_session()
        await site.alerts.apply(leak_opened(EVENT, [request(key())]))
        await site.alerts.process_due_requests()
        for delivery in await site.outbox.deliveries("cloud", 10):
            print(delivery.id, flush=True)  # noqa: T201
        os.kill(os.getpid(), signal.SIGKILL)


async def die_before_the_proposal_is_sent(folder: Path) -> None:
    async with gateway(folder, HandClock()) as site:
        await site.opens_session()
        await site.alerts.apply(leak_opened(EVENT, []))
        die_after_commit(site)
        print(await site.proposes(answer="keep_off"), flush=True)  # noqa: T201


async def killed(scene: str, folder: Path) -> list[str]:
    """Run ``scene`` in a child process until it kills itself; return the words it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, scene, str(folder), stdout=asyncio.subprocess.PIPE, env={**os.environ}
    )
    output, _ = await asyncio.wait_for(process.communicate(), WITHIN)
    assert process.returncode == -signal.SIGKILL
    return output.decode().split()


@pytest.fixture
def restarted_clock() -> HandClock:
    clock = HandClock()
    clock.advance(1)
    return clock


async def test_a_transition_that_was_not_committed_has_no_receipt_and_is_sent_again(
    tmp_path: Path, restarted_clock: HandClock
) -> None:
    assert await killed("die_before_the_transition_is_committed", tmp_path) == []
    async with gateway(tmp_path, restarted_clock) as site:
        cursor, summaries = await site.alerts.cursor_and_summaries()
        assert (cursor, list(summaries)) == (None, []), "so the integration's log begins before it"
        assert await site.types() == []
        await site.opens_session(catches_up=False)
        await site.alerts.apply(leak_opened(EVENT, [request(key())]))
        await site.alerts.caught_up()
        await site.alerts.process_due_requests()
        assert await site.types() == ["opened", "notification_requested"]


async def test_a_transition_whose_receipt_was_lost_is_sent_again_and_applied_once(
    tmp_path: Path, restarted_clock: HandClock
) -> None:
    assert await killed("die_before_the_receipt", tmp_path) == []
    async with gateway(tmp_path, restarted_clock) as site:
        cursor, _ = await site.alerts.cursor_and_summaries()
        transition = leak_opened(EVENT, [request(key())])
        assert cursor == transition.position
        await site.opens_session(catches_up=False)
        await site.alerts.apply(transition)
        await site.alerts.caught_up()
        await site.alerts.process_due_requests()
        assert await site.types() == ["opened", "notification_requested"]


async def test_an_unsent_outcome_is_sent_in_the_next_session(tmp_path: Path, restarted_clock: HandClock) -> None:
    assert await killed("die_before_the_outcome_is_sent", tmp_path) == []
    async with gateway(tmp_path, restarted_clock) as site:
        await site.opens_session()
        assert site.outcomes() == {key(): True}
        assert await site.types() == []


async def test_a_delivery_that_was_not_settled_is_repeated_with_the_same_ids(
    tmp_path: Path, restarted_clock: HandClock
) -> None:
    sent = await killed("die_before_the_delivery_is_settled", tmp_path)
    async with gateway(tmp_path, restarted_clock) as site:
        assert [delivery.id for delivery in await site.outbox.deliveries("cloud", 10)] == sent
        assert len(sent) == 2


async def test_an_unsent_proposal_is_sent_in_the_next_session_and_its_item_is_recognised(
    tmp_path: Path, restarted_clock: HandClock
) -> None:
    assert await killed("die_before_the_proposal_is_sent", tmp_path) == []
    async with gateway(tmp_path, restarted_clock) as site:
        await site.opens_session()
        [proposal] = site.proposed()
        assert await site.proposes(answer="keep_off") == proposal
        assert site.proposed() == [proposal]
        assert TransitionKind.OPENED in await site.types()
