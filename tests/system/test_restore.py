"""Both sides backed up under load, everything destroyed, restored on an empty machine, judged by the ledger."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from process_cosmos_testbed.scenarios.leak_demo.fixtures import DemoFixtures

from .restored import restorable_site

WORKER, NEIGHBOUR = "counter.pump_restarts", "counter.neighbour_called"


BOTH = ("home", "app")
"""As the Supervisor does it: Home Assistant first."""


@pytest.mark.parametrize(
    ("backed_up", "lost"),
    [
        (BOTH, BOTH),
        pytest.param(("app", "home"), BOTH, marks=pytest.mark.long),
        pytest.param(BOTH, ("home",), marks=pytest.mark.long),
        pytest.param(BOTH, ("app",), marks=pytest.mark.long),
    ],
)
async def test_a_site_restored_on_an_empty_machine_loses_and_repeats_nothing(
    tmp_path: Path, backed_up: Sequence[str], lost: Sequence[str]
) -> None:
    async with restorable_site(tmp_path / "site") as restorable:
        site, fixtures, expected = restorable.site, restorable.fixtures, restorable.fixtures.expected
        await answered_by_phone(fixtures)
        neighbour = await fixtures.ask_people("Nobody is at home", "neighbour_called", "Call the neighbour")
        boiler = await fixtures.ask_people("The boiler is cold", "pump_restarts", "Restart it")
        expected.other_alerts, expected.effects = 3, {"pump restarted": 1}
        site.to_cloud.blackhole()
        async with restorable.load():
            for side in backed_up:
                await restorable.until_leaked(2)
                await (restorable.back_up_home() if side == "home" else restorable.back_up_app())
            await restorable.until_leaked(2)
        alive = restorable.alive_in_backups(*lost)
        assert alive >= {neighbour, boiler}
        in_flight = alive - {neighbour, boiler}

        # After the backups, and the cloud endpoint hears of it: an answer whose actions must not run once more.
        site.to_cloud.heal()
        await restorable.until_arrived()
        await site.answer_at_the_cloud(boiler, "Restart it", "operator at the cloud")
        await fixtures.until_state(WORKER, "2")
        expected.effects = {"pump restarted": 2}
        assert (await restorable.until_arrived()).complaints == []

        await restorable.destroy(*lost)
        await restorable.restore(*lost)

        assert (restorable.epoch() != restorable.epoch_of_backup()) == ("app" in lost)
        # Of what was closed after its backup a site that lost both sides cannot know: it is alive there, and is closed
        # once more. Where one side is left, it knows.
        unknown = {boiler, *in_flight} if lost == BOTH else set()
        await close(fixtures, *in_flight, still_open=2 if unknown else 1)
        await restorable.leak()
        await restorable.leak()
        await site.answer_at_the_cloud(neighbour, "Call the neighbour", "operator at the cloud")
        await fixtures.until_state(NEIGHBOUR, "1")
        expected.effects["neighbour called"] = 1
        await close(fixtures, boiler, still_open=0)
        result = await restorable.until_arrived()
        unavoidable = [f"received more than one closing of {alert}" for alert in unknown]
        # Phones that were notified after the backup of Home Assistant are notified again: the backup does not know it.
        unavoidable += [f"was notified again for {alert}/" for alert in in_flight]
        complaints = [each for each in result.complaints if not any(words in each for words in unavoidable)]
        assert complaints == []
        assert result.repeats_absorbed > 0 or "app" not in lost, "what waited in the backup had been sent before"


async def answered_by_phone(fixtures: DemoFixtures) -> None:
    """Open an alert that one phone answers."""
    worker = await fixtures.ask_people("The pump stands still", "pump_restarts", "Restart it")
    await fixtures.answer_by_phone(worker, "Restart it")
    await fixtures.until_state(WORKER, "1")


async def close(fixtures: DemoFixtures, *alerts: str, still_open: int) -> None:
    """Resolve ``alerts`` as their owner does; alerts that are closed stay as they are."""
    for alert in alerts:
        await fixtures.home.action("process_cosmos.resolve", {"alert": alert, "note": "over since the backup"})
    await fixtures.until_open(still_open)
