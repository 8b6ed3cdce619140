"""The store in the whole gateway: damage found while it runs, backups by its command."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Never

import pytest

from process_cosmos_gateway import app
from process_cosmos_gateway.options import Options
from process_cosmos_gateway.store import Store
from process_cosmos_gateway.store.errors import StoreDamagedError
from process_cosmos_testbed.services import COMMAND

from .store.parts import opened

WITHIN = 20


async def command(*arguments: str | Path) -> int:
    process = await asyncio.create_subprocess_exec(COMMAND, *arguments, stderr=asyncio.subprocess.DEVNULL)
    async with asyncio.timeout(WITHIN):
        return await process.wait()


async def test_damage_found_while_it_runs_is_recovered(
    tmp_path: Path, unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    epochs = []
    run = Store.run

    async def meet_damage_once(store: Store) -> Never:
        epochs.append(store.epoch)
        if len(epochs) == 1:
            (tmp_path / "gateway.sqlite.suspect").touch()
            raise StoreDamagedError("a page was not readable")
        assert store.recovered is not None
        os.kill(os.getpid(), signal.SIGTERM)
        await run(store)

    monkeypatch.setattr(Store, "run", meet_damage_once)
    async with asyncio.timeout(WITHIN):
        await app.run(Options(data=tmp_path, host="127.0.0.1", port=unused_tcp_port))
    assert len(set(epochs)) == 2


async def test_the_backup_command_copies_the_store_of_a_running_gateway_and_removes_the_copy(tmp_path: Path) -> None:
    options = tmp_path / "gateway.toml"
    options.write_text(f'data = "{tmp_path / "data"}"\n')
    async with opened(tmp_path / "data") as store:
        site = store.site
        assert await command("backup", "--options", options) == 0
    (tmp_path / "restored").mkdir()
    (tmp_path / "data/backup").rename(tmp_path / "restored/backup")
    async with opened(tmp_path / "restored") as store:
        assert store.site == site
        assert await command("backup", "--options", options) == 0
        assert await command("backup", "--remove", "--options", options) == 0
    assert not (tmp_path / "data/backup/store.sqlite").exists()


async def test_the_backup_command_fails_without_a_store(tmp_path: Path) -> None:
    options = tmp_path / "gateway.toml"
    options.write_text(f'data = "{tmp_path / "nowhere"}"\n')
    assert await command("backup", "--options", options) == 1
