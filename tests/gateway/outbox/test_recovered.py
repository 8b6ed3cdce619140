"""A salvaged store gives out no number that a destination's cursor has passed: its event would never be sent."""

from pathlib import Path

from process_cosmos_gateway.contract.destinations import Priority, Waiting
from process_cosmos_gateway.outbox import Outbox
from tests.gateway.store.parts import HandClock, opened
from tests.gateway.store.test_recovery import PAGE, pages, spoil, suspect

from .parts import ALL, accept, drain, event, measure


async def test_what_is_accepted_after_the_last_numbers_were_lost_twice_is_sent(
    tmp_path: Path, clock: HandClock
) -> None:
    for turn in range(3):
        async with opened(tmp_path) as store:
            assert (store.recovered is not None) == bool(turn)
            outbox = Outbox(store, clock)
            await outbox.register("cloud", ALL)
            await accept(outbox, event("urgent"), event("change", priority=Priority.CHANGE))
            await measure(store, outbox, turn)
            assert await drain(outbox, "cloud") == ["urgent", "change", f"m{turn}"]
            assert (await outbox.depths()).waiting == Waiting()
        [page] = pages(tmp_path, "sqlite_sequence", "leaf")
        spoil(tmp_path / "gateway.sqlite", (page - 1) * PAGE)
        suspect(tmp_path)
