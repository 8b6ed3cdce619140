"""A recovered store assigns no sequence number behind the cursor of a destination: the event would never be sent."""

from pathlib import Path

from process_cosmos_gateway.contract.destinations import Priority, Waiting
from process_cosmos_gateway.outbox import Outbox
from tests.gateway.store.parts import HandClock, opened
from tests.gateway.store.test_recovery import PAGE, pages, spoil, suspect

from .parts import ALL, accept, drain, enqueue_readings, event


async def test_events_accepted_after_the_last_sequence_numbers_were_lost_twice_are_sent(
    tmp_path: Path, clock: HandClock
) -> None:
    for turn in range(3):
        async with opened(tmp_path) as store:
            assert (store.recovered is not None) == bool(turn)
            outbox = Outbox(store, clock)
            await outbox.register("cloud", ALL)
            await accept(outbox, event("urgent"), event("change", priority=Priority.CHANGE))
            await enqueue_readings(store, outbox, turn)
            assert await drain(outbox, "cloud") == ["urgent", "change", f"m{turn}"]
            assert (await outbox.depths()).waiting == Waiting()
        [page] = pages(tmp_path, "sqlite_sequence", "leaf")
        spoil(tmp_path / "gateway.sqlite", (page - 1) * PAGE)
        suspect(tmp_path)
