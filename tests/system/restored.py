"""A site that can be backed up as Home Assistant and the Supervisor do it, destroyed, and restored somewhere else."""

import asyncio
import json
import re
import shlex
import shutil
import sqlite3
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from securetar import atomic_contents_add

from process_cosmos_testbed.home_assistant.flows import Flow, FlowError
from process_cosmos_testbed.home_assistant.process import EXIT_TO_RESTART
from process_cosmos_testbed.processes import BIN, ROOT, free_port, run_once, until
from process_cosmos_testbed.scenarios.leak_demo.fixtures import DemoFixtures
from process_cosmos_testbed.scenarios.leak_demo.judge import DemoJudgement
from process_cosmos_testbed.scenarios.leak_demo.setup import find_entities
from process_cosmos_testbed.scenarios.leak_demo.site import DemoSite

_RECORDS = re.compile(rb'"type":"(opened|answered|unanswered|resolved)","alert":"([0-9A-Z]{26})"')


class RestorableSite:
    """A site whose Home Assistant and app are backed up, destroyed and restored, while its surroundings run on."""

    def __init__(self, site: DemoSite) -> None:
        """Use a started site."""
        self.site = site
        self.fixtures = DemoFixtures(site)
        self.leaked = 0
        """How often the kitchen was wet and is dry again."""
        self._home_folder = site.home_assistant.configuration
        self._app_folder = site.gateway.data
        self._home_backup = site.folder / "home.tar"
        self._app_backup = site.folder / "app.tar"

    async def until_arrived(self) -> DemoJudgement:
        """Return the judgement once everything accepted has arrived at both destinations."""

        async def arrived() -> DemoJudgement | None:
            result = await self.site.observer.judge()
            return result if result.lost == 0 else None

        return await until(arrived, "everything at both destinations", 80, every=0.3)

    @asynccontextmanager
    async def load(self) -> AsyncIterator[None]:
        """Let the kitchen leak, one leak after the other, inside the block."""
        enough = asyncio.Event()

        async def leak() -> None:
            while not enough.is_set():
                await self.leak()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(leak(), name="load")
            yield
            enough.set()

    async def leak(self) -> None:
        """Run one leak from wet to dry."""
        await self.fixtures.kitchen_leak()
        self.leaked += 1

    async def until_leaked(self, times: int) -> None:
        """Return when the load has leaked ``times`` more."""
        wanted = self.leaked + times
        await until(lambda: self.leaked >= wanted, f"{times} leaks", 30)

    async def back_up_home(self) -> None:
        """Let Home Assistant make its own backup, once it has written down by itself which phones there are."""
        registry = self._home_folder / ".storage/core.device_registry"

        def written() -> bool:
            known = registry.read_text() if registry.exists() else ""
            return all(phone.device in known for phone in self.fixtures.phones)

        await until(written, "the phones in Home Assistant's registry", 60)
        await self.fixtures.home.command("backup/generate", agent_ids=["backup.local"])

        async def made() -> Path | None:
            found = await self.fixtures.home.command("backup/info")
            files = list((self._home_folder / "backups").glob("*.tar"))
            return files[0] if found["state"] == "idle" and found["backups"] and files else None

        shutil.copy(await until(made, "a backup of Home Assistant", 60), self._home_backup)

    async def back_up_app(self) -> None:
        """Back the app up as the Supervisor does: command, copy of what is not left out, command."""
        app = yaml.safe_load((ROOT / "addon/config.yaml").read_text())
        await self._run_in_app(app["backup_pre"])

        def is_left_out(path: PurePath) -> bool:
            whole = self._app_folder / path.relative_to("data")
            return any(whole.match(pattern) for pattern in app["backup_exclude"])

        def copy() -> None:
            with tarfile.open(self._app_backup, "w") as archive:
                atomic_contents_add(archive, self._app_folder, file_filter=is_left_out, arcname="data")

        await asyncio.to_thread(copy)
        await self._run_in_app(app["backup_post"])

    def alive_in_backups(self, *sides: str) -> set[str]:
        """Return the alerts that were alive in a backup of any of ``sides``."""
        alive = set()
        if "home" in sides:
            alive |= self._alive_in_home_backup()
        if "app" in sides:
            alive |= {str(one) for (one,) in self._asked_of_backup("SELECT id FROM alert WHERE alive = 1")}
        return alive

    def epoch_of_backup(self) -> str:
        """Return the epoch in which the app's backup was made."""
        [(epoch,)] = self._asked_of_backup("SELECT value FROM meta WHERE key = 'epoch'")
        return str(epoch)

    def epoch(self) -> str:
        """Return the epoch the app is in."""
        [(epoch,)] = _asked(self._app_folder / "gateway.sqlite", "SELECT value FROM meta WHERE key = 'epoch'")
        return str(epoch)

    async def destroy(self, *sides: str) -> None:
        """Let the machine of ``sides`` burn down: nothing of theirs is left."""
        if "home" in sides:
            await self.fixtures.disconnect()
            await self.site.home_assistant.kill()
            shutil.rmtree(self._home_folder)
        if "app" in sides:
            await self.site.gateway.kill()
            shutil.rmtree(self._app_folder)

    async def restore(self, *sides: str) -> None:
        """Restore ``sides`` on a new machine; the app's address there is another one, as Home Assistant is told."""
        async with asyncio.TaskGroup() as tasks:
            if "app" in sides:
                tasks.create_task(self._restore_app())
            if "home" in sides:
                tasks.create_task(self._restore_home())
        if "app" in sides:
            flow = Flow(self.fixtures.home)
            await flow.begin(entry_id=self.fixtures.entry)
            with pytest.raises(FlowError, match="reconfigure_successful"):
                await flow.fill("reconfigure", line=await self.site.gateway.new_pairing_line())
        await find_entities(self.fixtures.home)

    async def _restore_app(self) -> None:
        self._unpack_app(self._app_folder)
        self.site.gateway.port = free_port()
        await self.site.start_gateway()

    async def _restore_home(self) -> None:
        home_assistant = self.site.home_assistant
        self._home_folder.mkdir()
        order = {"path": str(self._home_backup), "password": None, "remove_after_restore": False}
        order |= {"restore_database": True, "restore_homeassistant": True}
        (self._home_folder / ".HA_RESTORE").write_text(json.dumps(order))
        await home_assistant.launch_here()
        assert await home_assistant.wait(60) == EXIT_TO_RESTART, "it restores, then asks to be started again"
        await home_assistant.start()
        await self.fixtures.reconnect()

    def _alive_in_home_backup(self) -> set[str]:
        with tarfile.open(self._home_backup) as outer:
            inner = outer.extractfile(next(each for each in outer if each.name.endswith("homeassistant.tar.gz")))
            with tarfile.open(fileobj=inner, mode="r:gz") as archive:
                name = next(name for name in archive.getnames() if name.endswith(".memory"))
                memory = archive.extractfile(name)
                assert memory is not None
                records = _RECORDS.findall(memory.read())
        opened = {alert.decode() for kind, alert in records if kind == b"opened"}
        return opened - {alert.decode() for kind, alert in records if kind != b"opened"}

    async def _run_in_app(self, command: str) -> None:
        program, *arguments = shlex.split(command)
        options = ("--options", self.site.gateway.file)
        await run_once(BIN / program, *arguments, *options, log=self.site.folder / "commands.log")

    def _unpack_app(self, folder: Path) -> None:
        beside = folder.with_name(f"{folder.name}.new")
        with tarfile.open(self._app_backup) as archive:
            archive.extractall(beside, filter="tar")
        (beside / "data").rename(folder)
        beside.rmdir()

    def _asked_of_backup(self, question: str) -> list[tuple[Any, ...]]:
        folder = self.site.folder / "looked-at"
        self._unpack_app(folder)
        try:
            return _asked(folder / "backup/store.sqlite", question)
        finally:
            shutil.rmtree(folder)


def _asked(database: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


@asynccontextmanager
async def restorable_site(folder: Path) -> AsyncIterator[RestorableSite]:
    """Run a site inside the block that is set up, with a guarded kitchen."""
    folder.mkdir()
    async with DemoSite(folder, yaml="backup:\n").started() as site:
        restorable = RestorableSite(site)
        try:
            await restorable.fixtures.set_up()
            yield restorable
        finally:
            await restorable.fixtures.disconnect()
