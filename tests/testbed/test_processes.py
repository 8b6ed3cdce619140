"""Processes of the lab: started, watched and ended."""

import os
import secrets
import signal
import sys
from pathlib import Path

import pytest

from process_cosmos_testbed.processes import ManagedProcess, ProcessFailedError, free_ports, run_once, until

PYTHON = (sys.executable, "-c")


async def never() -> bool | None:
    return None


def test_free_ports_are_different_and_not_those_that_connections_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    result = iter((10_000, 10_000, 10_001, 10_002))
    monkeypatch.setattr(secrets, "choice", lambda _: next(result))
    assert len(set(free_ports(2))) == 2
    monkeypatch.undo()
    assert all(port < 32_768 for port in free_ports(50))


async def test_a_part_that_ends_too_early_says_so_with_the_end_of_its_log(tmp_path: Path) -> None:
    part = ManagedProcess("sleeper", tmp_path)
    await part.start(*PYTHON, "print('last words')")
    with pytest.raises(ProcessFailedError, match=r"(?s)ended before it reached godot.*last words"):
        await part.until(never, "godot")


async def test_a_part_that_gets_nowhere_says_so(tmp_path: Path) -> None:
    part = ManagedProcess("sleeper", tmp_path)
    await part.start(*PYTHON, "import time; time.sleep(60)")
    with pytest.raises(ProcessFailedError, match="did not reach godot"):
        await part.until(never, "godot", limit=0.1)
    assert part.running
    assert await part.kill() == -signal.SIGKILL
    assert not part.running


async def test_a_part_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    part = ManagedProcess("deaf", tmp_path)
    words = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    await part.start(*PYTHON, words)
    await until(lambda: "deaf" in part.log.read_text(), "deafness")
    await part.stop(limit=0.1)
    assert not part.running


async def test_a_part_that_was_never_started_has_no_number_and_nothing_to_wait_for(tmp_path: Path) -> None:
    part = ManagedProcess("nobody", tmp_path)
    assert await part.wait(1) == 0
    await part.stop()
    with pytest.raises(ProcessFailedError, match="never started"):
        _ = part.pid


async def test_nothing_configures_the_labs_gateways_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCESS_COSMOS_DATA", "mine")
    monkeypatch.setenv("SUPERVISOR_TOKEN", "secret")
    seen = await run_once(*PYTHON, "import os; print(sorted(os.environ))")
    assert "PATH" in os.environ
    assert "PATH" in seen
    assert "PROCESS_COSMOS_DATA" not in seen
    assert "SUPERVISOR_TOKEN" not in seen


async def test_a_command_that_fails_or_hangs_says_so() -> None:
    with pytest.raises(ProcessFailedError, match=r"(?s)ended 1.*oh no"):
        await run_once(*PYTHON, "raise SystemExit('oh no')")
    with pytest.raises(ProcessFailedError, match="did not end within"):
        await run_once(*PYTHON, "import time; time.sleep(60)", limit=0.2)


async def test_a_condition_that_never_holds_says_what_was_waited_for() -> None:
    with pytest.raises(TimeoutError, match="no rain"):
        await until(lambda: False, "rain", limit=0.05)
