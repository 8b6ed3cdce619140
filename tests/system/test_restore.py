"""Both sides backed up under load, everything destroyed, restored on an empty machine, judged by the ledger."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from process_cosmos_testbed.home_assistant.onboarding import press

from .restored import Site, site_in_a_house

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
    async with site_in_a_house(tmp_path / "house") as site:
        await answered_by_phone(site)
        neighbour = await site.stage.ask_people("Nobody is at home", "neighbour_called", "Call the neighbour")
        boiler = await site.stage.ask_people("The boiler is cold", "pump_restarts", "Restart it")
        site.expected |= {"other_alerts": 3, "effects": {"pump restarted": 1}}
        await site.house.fault("blackhole")
        async with site.load():
            for side in backed_up:
                await site.until_leaked(2)
                await (site.back_up_home() if side == "home" else site.back_up_app())
            await site.until_leaked(2)
        alive = site.alive_in_backups(*lost)
        assert alive >= {neighbour, boiler}
        in_flight = alive - {neighbour, boiler}

        # After the backups, and the cloud endpoint hears of it: an answer whose actions must not run once more.
        await site.house.fault("heal")
        await site.until_arrived()
        await site.house.answer_at_the_cloud(boiler, "Restart it", "operator at the cloud")
        await site.stage.until_state(WORKER, "2")
        site.expected["effects"] = {"pump restarted": 2}
        assert (await site.until_arrived())["complaints"] == []

        await site.destroy(*lost)
        await site.restore(*lost)

        assert (site.epoch() != site.epoch_of_backup()) == ("app" in lost)
        # Of what was closed after its backup a site that lost both sides cannot know: it is alive there, and is closed
        # once more. Where one side is left, it knows.
        unknown = {boiler, *in_flight} if lost == BOTH else set()
        await close(site, *in_flight, still_open=2 if unknown else 1)
        await site.leak()
        await site.leak()
        await site.house.answer_at_the_cloud(neighbour, "Call the neighbour", "operator at the cloud")
        await site.stage.until_state(NEIGHBOUR, "1")
        site.expected["effects"] |= {"neighbour called": 1}
        await close(site, boiler, still_open=0)
        result = await site.until_arrived()
        unavoidable = [f"heard more than once that {alert} was closed" for alert in unknown]
        # Whoever was being rung when Home Assistant was backed up is rung again: that he was is not in the backup.
        unavoidable += [f"rang again for {alert}/" for alert in in_flight]
        complaints = [each for each in result["complaints"] if not any(words in each for words in unavoidable)]
        assert complaints == []
        assert result["repeats_absorbed"] > 0 or "app" not in lost, "what waited in the backup had been sent before"


async def answered_by_phone(site: Site) -> None:
    """Ask people something, which one of them answers by phone."""
    worker = await site.stage.ask_people("The pump stands still", "pump_restarts", "Restart it")
    button = await site.house.ask("button", alert=worker, phone=site.phones[0].name, title="Restart it")
    await press(site.home, site.phones[0], button)
    await site.stage.until_over(worker)
    await site.stage.until_state(WORKER, "1")


async def close(site: Site, *alerts: str, still_open: int) -> None:
    """Resolve ``alerts``, as their owner does; what is closed already stays as it is."""
    for alert in alerts:
        await site.home.action("process_cosmos.resolve", {"alert": alert, "note": "over since the backup"})
    await site.stage.until_open(still_open)
