"""A site that can be backed up as Home Assistant and the Supervisor do it, destroyed, and restored somewhere else."""

import asyncio
import json
import re
import shlex
import shutil
import sqlite3
import tarfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path, PurePath
from typing import Any

import pytest
import yaml
from securetar import atomic_contents_add

from process_cosmos_testbed.home_assistant.client import HomeAssistantClient
from process_cosmos_testbed.home_assistant.onboarding import Phone, onboard, prepare_folder
from process_cosmos_testbed.processes import free_ports, run_once
from process_cosmos_testbed.scenarios.leak_demo.fixtures import Stage
from process_cosmos_testbed.scenarios.leak_demo.house import BIN, HOME_ASSISTANT_ENTITIES, ROOT, House, until
from process_cosmos_testbed.scenarios.leak_demo.scenario import EXIT_TO_RESTART
from process_cosmos_testbed.scenarios.leak_demo.setup import (
    DOMAIN,
    PHONES,
    Flow,
    FlowError,
    add_guard,
    add_integration,
    add_phones,
    add_webhook,
    find_entities,
)

EFFECTS = {"counter.pump_restarts": "pump restarted", "counter.neighbour_called": "neighbour called"}
_RECORDS = re.compile(rb'"type":"(opened|answered|unanswered|resolved)","alert":"([0-9A-Z]{26})"')


class Site:
    """The site of a house whose other inhabitants (broker, cloud, phones, ledger) live on when it is destroyed."""

    def __init__(self, house: House) -> None:
        """Take the house before it starts."""
        self.house = house
        self.leaked = 0
        """How often the kitchen was wet and has dried since."""
        self.expected: dict[str, Any] = {"effects": {}, "other_alerts": 0, "calls": {}}
        self.home: HomeAssistantClient
        self.stage: Stage
        self.phones: list[Phone]
        self._home_folder = house.folder / "home-assistant"
        self._app_folder = house.folder / "gateway"
        self._home_backup = house.folder / "home.tar"
        self._app_backup = house.folder / "app.tar"
        self._connection = AsyncExitStack()
        self._token = ""
        self._entry = ""
        integration = ROOT / "custom_components/process_cosmos"
        prepare_folder(self._home_folder, house._home_port, integration, HOME_ASSISTANT_ENTITIES + "backup:\n")

    async def set_up(self) -> None:
        """Set it up as its owner does, with two phones, both destinations and a guarded kitchen."""
        house = self.house
        self._token = await onboard(house.url)
        async with HomeAssistantClient(house.url, self._token) as home:
            await home.until_running()
            self.phones = await add_phones(home, house)
            await house.ask("watch_home", url=house.url, token=self._token, sensors=[], closings={}, effects=EFFECTS)
            self._entry = await add_integration(home, house, self.phones)
            await find_entities(home)
            await add_webhook(home, self._entry, house.webhook_url)
            kitchen = await find_entities(home)
            await house.ask("begin")
            await add_guard(home, "leak_guard_kitchen", kitchen.sensor, kitchen.valve)
        await self._connect()

    async def leave(self) -> None:
        """Let go of Home Assistant."""
        await self._connection.aclose()

    async def judged(self) -> dict[str, Any]:
        """Ask the ledger."""
        guards = [{"sensor": "wot/leak-kitchen", "valve": "wot/valve-kitchen"}]
        await self.house.ask("expect", phones=PHONES, destinations=["cloud", "webhook"], guards=guards, **self.expected)
        result: dict[str, Any] = await self.house.ask("judge")
        return result

    async def until_arrived(self) -> dict[str, Any]:
        """Return the verdict once everything accepted has arrived at both destinations."""

        async def arrived() -> dict[str, Any] | None:
            result = await self.judged()
            return result if result["lost"] == 0 else None

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
        """Play one leak from wet to dry."""
        await self.stage.kitchen_leak()
        self.leaked += 1

    async def until_leaked(self, times: int) -> None:
        """Return when the load has leaked ``times`` more."""
        wanted = self.leaked + times

        async def has() -> bool | None:
            return self.leaked >= wanted or None

        await until(has, f"{times} leaks", 30)

    async def back_up_home(self) -> None:
        """Let Home Assistant make its own backup, once it has written down by itself which phones there are."""
        registry = self._home_folder / ".storage/core.device_registry"

        async def written() -> bool | None:
            known = registry.read_text() if registry.exists() else ""
            return all(phone.device in known for phone in self.phones) or None

        await until(written, "the phones in Home Assistant's registry", 60)
        await self.home.command("backup/generate", agent_ids=["backup.local"])

        async def made() -> Path | None:
            found = await self.home.command("backup/info")
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
            await self.leave()
            await self.house.home_assistant.kill()
            shutil.rmtree(self._home_folder)
        if "app" in sides:
            await self.house.gateway.kill()
            shutil.rmtree(self._app_folder)

    async def restore(self, *sides: str) -> None:
        """Restore ``sides`` on a new machine; the app's address there is another one, as Home Assistant is told."""
        async with asyncio.TaskGroup() as tasks:
            if "app" in sides:
                tasks.create_task(self._restore_app())
            if "home" in sides:
                tasks.create_task(self._restore_home())
        if "app" in sides:
            flow = Flow(self.home, "/api/config/config_entries/flow")
            await flow.begin(handler=DOMAIN, entry_id=self._entry)
            with pytest.raises(FlowError, match="reconfigure_successful"):
                await flow.fill("reconfigure", line=await self.house.pairing_line())
        await find_entities(self.home)

    async def _restore_app(self) -> None:
        self._unpack_app(self._app_folder)
        self.house._gateway_port = free_ports(1)[0]
        await self.house.start_gateway()

    async def _restore_home(self) -> None:
        house = self.house
        self._home_folder.mkdir()
        order = {"path": str(self._home_backup), "password": None, "remove_after_restore": False}
        order |= {"restore_database": True, "restore_homeassistant": True}
        (self._home_folder / ".HA_RESTORE").write_text(json.dumps(order))
        await house.home_assistant.start(BIN / "hass", "-c", self._home_folder, "--skip-pip")
        assert await house.home_assistant.wait(60) == EXIT_TO_RESTART, "it restores, then asks to be started again"
        await house.start_home_assistant()
        await self._connect()

    async def _connect(self) -> None:
        self.home = await self._connection.enter_async_context(HomeAssistantClient(self.house.url, self._token))
        await self.home.until_running()
        self.stage = Stage(self.house, self.home, self.phones)
        await self.stage.listen()
        await self.house.ask("watching_home")

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
        options = ("--options", self.house._options)
        await run_once(BIN / program, *arguments, *options, log=self.house.folder / "commands.log")

    def _unpack_app(self, folder: Path) -> None:
        beside = folder.with_name(f"{folder.name}.new")
        with tarfile.open(self._app_backup) as archive:
            archive.extractall(beside, filter="tar")
        (beside / "data").rename(folder)
        beside.rmdir()

    def _asked_of_backup(self, question: str) -> list[tuple[Any, ...]]:
        folder = self.house.folder / "looked-at"
        self._unpack_app(folder)
        try:
            return _asked(folder / "backup/store.sqlite", question)
        finally:
            shutil.rmtree(folder)


def _asked(database: Path, question: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


@asynccontextmanager
async def site_in_a_house(folder: Path) -> AsyncIterator[Site]:
    """Run a house with a site that is set up."""
    folder.mkdir()
    house = House(folder)
    site = Site(house)
    try:
        await house.start()
        await site.set_up()
        yield site
    finally:
        await site.leave()
        await house.stop()
