"""An outbox whose rows were lost in part: nothing that is left is withheld from a destination, and all goes on."""

from pathlib import Path

import pytest

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


@pytest.mark.parametrize("lost", ["outbox_cursor", "outbox_backlog", "outbox_destination", "outbox_kind"])
async def test_a_destination_whose_rows_were_lost_gets_all_stored_events(
    tmp_path: Path, clock: HandClock, lost: str
) -> None:
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await outbox.register("cloud", ALL)
        await accept(outbox, event("urgent"), event("change", priority=Priority.CHANGE))
        await enqueue_readings(store, outbox, 0)
        await store.write(lambda transaction: transaction.run(f"DELETE FROM {lost}"))  # noqa: S608 - a name above
    suspect(tmp_path)
    async with opened(tmp_path) as store:
        outbox = Outbox(store, clock)
        await enqueue_readings(store, outbox, 1)
        await outbox.register("cloud", ALL)
        await enqueue_readings(store, outbox, 2)
        assert set(await drain(outbox, "cloud")) >= {"urgent", "change", "m2"}
        assert (await outbox.depths()).waiting == Waiting()
