"""Managed processes: started, watched and ended."""

import asyncio
import os
import secrets
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from process_cosmos_testbed.processes import (
    Background,
    EndedEarlyError,
    ManagedProcess,
    ProcessFailedError,
    free_ports,
    run_in_process,
    run_once,
    until,
)

PYTHON = (sys.executable, "-c")


async def never() -> bool:
    return False


async def always() -> bool:
    return True


def test_free_ports_are_different_and_not_those_that_connections_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    result = iter((10_000, 10_000, 10_001, 10_002))
    monkeypatch.setattr(secrets, "choice", lambda _: next(result))
    assert len(set(free_ports(2))) == 2
    monkeypatch.undo()
    assert all(port < 32_768 for port in free_ports(50))


async def test_a_part_that_ends_too_early_says_so_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = ManagedProcess("sleeper", tmp_path)
    await process.launch(*PYTHON, "print('last words')")
    with pytest.raises(ProcessFailedError, match=r"(?s)ended before it reached godot.*last words"):
        await process.until_ready(never, "godot")


async def test_a_part_that_gets_nowhere_says_so(tmp_path: Path) -> None:
    process = ManagedProcess("sleeper", tmp_path)
    await process.launch(*PYTHON, "import time; time.sleep(60)")
    with pytest.raises(ProcessFailedError, match="did not reach godot"):
        await process.until_ready(never, "godot", limit=0.1)
    assert process.running
    assert await process.kill() == -signal.SIGKILL
    assert not process.running


async def test_a_part_that_does_not_stop_is_killed(tmp_path: Path) -> None:
    process = ManagedProcess("deaf", tmp_path)
    words = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    await process.launch(*PYTHON, words)
    await until(lambda: "deaf" in process.log.read_text(), "deafness")
    await process.stop(limit=0.1)
    assert not process.running


async def test_a_part_that_was_never_started_has_no_number_and_nothing_to_wait_for(tmp_path: Path) -> None:
    process = ManagedProcess("nobody", tmp_path)
    assert await process.wait(1) == 0
    await process.stop()
    with pytest.raises(ProcessFailedError, match="never started"):
        _ = process.pid


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


async def test_output_and_errors_of_a_process_can_be_kept_apart(tmp_path: Path) -> None:
    process = ManagedProcess("ledger", tmp_path)
    await process.launch(*PYTHON, "import sys; print('{}'); print('oh', file=sys.stderr)", output=tmp_path / "lines")
    assert await process.wait(20) == 0
    assert ((tmp_path / "lines").read_text(), process.log.read_text()) == ("{}\n", "oh\n")


async def test_a_background_task_that_fails_ends_the_work_beside_it_with_its_own_error() -> None:
    async def fail() -> None:
        raise ValueError("not JSON")

    cancelled = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    async with Background() as background:
        background.add("reader", fail())
        with pytest.raises(EndedEarlyError, match="reader ended early: not JSON"):
            await background.beside(work())
    assert cancelled.is_set()


async def test_a_background_task_that_returns_ends_the_work_beside_it() -> None:
    async with Background() as background:
        background.add("reader", always())
        with pytest.raises(EndedEarlyError, match="reader ended early: it returned"):
            await background.beside(asyncio.sleep(60))


async def test_a_watched_process_that_ends_by_itself_ends_the_work_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = ManagedProcess("broker", tmp_path)
    await process.launch(*PYTHON, "import time; time.sleep(0.5); raise SystemExit('last words')")
    await process.until_ready(always, "its start")
    async with Background() as background:
        background.watch(process)
        with pytest.raises(EndedEarlyError, match=r"(?s)broker ended early: broker ended by itself.*last words"):
            await background.beside(asyncio.sleep(60))


async def test_a_process_that_is_just_being_created_is_killed(tmp_path: Path) -> None:
    process = ManagedProcess("sleeper", tmp_path)
    launching = asyncio.create_task(process.launch(*PYTHON, "import time; time.sleep(60)"))
    await asyncio.sleep(0)
    assert await process.kill() == -signal.SIGKILL
    await launching
    assert not process.running


async def test_a_watched_process_may_be_killed(tmp_path: Path) -> None:
    process = ManagedProcess("broker", tmp_path)
    await process.launch(*PYTHON, "import time; time.sleep(60)")
    await process.until_ready(always, "its start")

    async def kill() -> int:
        code = await process.kill()
        await asyncio.sleep(0.3)
        return code

    async with Background() as background:
        background.watch(process)
        assert await background.beside(kill()) == -signal.SIGKILL


async def test_work_in_a_process_of_its_own_returns_its_result_or_its_failure() -> None:
    assert await run_in_process(os.getpid, 30) != os.getpid()
    with pytest.raises(ProcessFailedError, match="nowhere"):
        await run_in_process(partial(os.listdir, "/nowhere"), 30)
    with pytest.raises(TimeoutError):
        await run_in_process(partial(time.sleep, 60), 0.5)
