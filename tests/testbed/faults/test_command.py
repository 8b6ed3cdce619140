"""The command line of the fault injection, and its report of faults that cannot be judged."""

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_testbed.cli import main
from process_cosmos_testbed.faults import cli as command
from process_cosmos_testbed.faults.bounds import Bounds
from process_cosmos_testbed.faults.fault import Fault, Scale
from process_cosmos_testbed.faults.runner import Outcome, Runner, document
from process_cosmos_testbed.faults.site import Site
from process_cosmos_testbed.faults.soak import plot
from process_cosmos_testbed.judge import Judgement, Row
from process_cosmos_testbed.ledger import Item
from process_cosmos_testbed.processes import ManagedProcess, until
from process_cosmos_testbed.report import Progress


async def idle(site: Site, _: Scale) -> None:
    """Do nothing, and say that something would have had to strike."""
    site.prove("strikes", 0)


MISSING = {"webhook": [Item(Priority.URGENT, "alert", 7)]}
IDLE = Fault(name="F1", sentence="nothing happens", inject=idle)


def test_a_fault_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["faults", "--only", "F99"])
    assert "there is no F99" in capsys.readouterr().err


def test_a_fault_that_does_not_strike_is_an_error_and_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "FAULTS", (IDLE,))
    own = tmp_path / "options.toml"
    own.write_text('data = "mine"\nport = 1\nlog_level = "debug"\n')
    file = tmp_path / "faults.json"
    assert main(["faults", "--quick", "--seed", "1", "--options", str(own), "--json", str(file)]) == 1
    result = json.loads(file.read_text())
    assert (result["ok"], result["results"]) == (False, [])
    assert "did not strike: strikes" in result["faults"][0]["error"]
    assert "NOT JUDGED" in capsys.readouterr().out


def test_a_copy_of_ones_own_settings_has_nothing_of_ones_own_folder_or_broker(tmp_path: Path) -> None:
    own = tmp_path / "options.json"
    own.write_text(json.dumps({"mqtt_password": "secret", "log_level": "debug"}))
    assert command.settings(own) == {"log_level": "debug"}
    assert command.settings(None) == {}


@pytest.mark.parametrize("promise", ["lost", "unexpected", "duplicate_effects", "order_violations"])
def test_one_broken_promise_fails_the_run(promise: str, capsys: pytest.CaptureFixture[str]) -> None:
    row = Row(priority=Priority.URGENT)
    setattr(row, promise, 1)
    outcome = Outcome(fault="F1", sentence="", judgement=Judgement(rows=(row,), missing=MISSING))
    assert not document(1, [outcome])["ok"]
    assert f"1 {promise}" in outcome.summary
    assert "BROKEN" in outcome.summary
    assert "1 missing at webhook: urgent alert #7" in outcome.summary
    assert outcome.document()["missing"] == ["1 missing at webhook: urgent alert #7"]


def test_no_promise_broken_passes() -> None:
    rows = (Row(priority=Priority.URGENT, ok=3),)
    outcome = Outcome(fault="F1", sentence="", judgement=Judgement(rows=rows, missing={}))
    assert document(1, [outcome])["ok"]
    assert outcome.summary == "held · urgent: 3 ok"


async def test_a_figure_over_its_bound_breaks_the_fault_and_the_ledger_is_judged() -> None:
    async def strike(site: Site, _: Scale) -> None:
        Bounds(site, 1.0).check("rss_mb", 151.2, 150)
        async with site.traffic(rate=5, keys=1):
            site.prove("strikes", 1)

    [outcome] = await Runner(1, Scale(quick=True), {}, Progress("faults")).run(
        [Fault(name="F1", sentence="", inject=strike)]
    )
    assert not outcome.held
    assert outcome.error is None
    assert outcome.judgement.held
    assert sum(row.ok for row in outcome.judgement.rows) > 0
    assert "over its bound: rss_mb: 151.20, 150 at most" in outcome.summary


async def test_a_site_serves_several_faults() -> None:
    async def strike(site: Site, _: Scale) -> None:
        site.prove("strikes", 1)

    first, second = (Fault(name=name, sentence="", inject=strike) for name in ("F1", "F2"))
    runner = Runner(1, Scale(quick=True), {}, Progress("faults"))
    outcomes = await runner.run([first, second])
    assert [outcome.held for outcome in outcomes] == [True, True]
    assert outcomes[1].seconds < outcomes[0].seconds


async def test_faults_that_are_played_at_a_time_are_told_in_their_order() -> None:
    begun: list[str] = []
    both = asyncio.Event()

    async def strike(site: Site, _: Scale) -> None:
        begun.append(site.folder.name)
        if len(begun) == 2:
            both.set()
        await both.wait()
        site.prove("strikes", 1)

    async def strike_longer(site: Site, scale: Scale) -> None:
        await strike(site, scale)
        await asyncio.sleep(0.2)

    first = Fault(name="F1", sentence="", inject=strike_longer)
    second = Fault(name="F2", sentence="", inject=strike)
    outcomes = await Runner(1, Scale(quick=True), {}, Progress("faults"), jobs=2).run([first, second])
    assert [outcome.fault for outcome in outcomes] == ["F1", "F2"]
    assert [outcome.held for outcome in outcomes] == [True, True]
    assert len(set(begun)) == 2


async def test_a_background_task_that_fails_is_the_error_of_the_fault(capsys: pytest.CaptureFixture[str]) -> None:
    async def break_ledger(site: Site, _: Scale) -> None:
        site.prove("strikes", 1)
        with site.cloud.arrivals.open("ab") as lines:
            lines.write(b"Traceback\n")
        await asyncio.sleep(60)

    fault = Fault(name="F1", sentence="", inject=break_ledger)
    [outcome] = await Runner(1, Scale(quick=True), {}, Progress("faults")).run([fault])
    assert outcome.error is not None
    assert "reader of the cloud endpoint's ledger ended early" in outcome.error
    assert "logs and databases" in capsys.readouterr().out


async def test_a_run_that_is_ended_leaves_no_process_behind(tmp_path: Path) -> None:
    run = ManagedProcess("faults", tmp_path)
    await run.launch(sys.executable, "-m", "process_cosmos_testbed", "faults", "--quick", "--only", "F3")

    def children() -> list[str]:
        return Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()

    await until(lambda: len(children()) == 4, "broker, endpoint, its log and gateway")
    started = children()
    run.signal(signal.SIGTERM)
    assert await run.wait(30) != 0
    assert [pid for pid in started if Path(f"/proc/{pid}").exists()] == []


def test_the_plot_shows_the_most_memory_and_the_time() -> None:
    svg = plot([(0.0, 50.0), (60.0, 60.0)])
    assert "at most 60 MB" in svg
    assert "1.0 minutes" in svg
