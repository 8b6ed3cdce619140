"""Property writes while store or broker are slow or refuse, or the row's JSON differs from the reported value."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from process_cosmos_gateway.contract.devices import Value
from process_cosmos_gateway.devices import repository
from process_cosmos_gateway.devices.mqtt.errors import DeniedError
from process_cosmos_gateway.devices.things.property_writes import PropertyWrites
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.store import Store
from tests.gateway.store.parts import HandClock, SyncCountingVfs, opened
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("short_waits")


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the shifted clock a hundred times a second."""
    monkeypatch.setattr("process_cosmos_gateway.devices.things.property_writes._MAX_WAIT_SECONDS", 0.01)


@dataclass
class WritesHarness:
    """Property writes on a real store; ``sent``: published writes, ``answers``: the broker's answer by device."""

    store: Store
    clock: HandClock = field(default_factory=HandClock)
    counts: Counter[str] = field(default_factory=Counter)
    sent: list[tuple[str, Value]] = field(default_factory=list)
    answers: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    def writes(self) -> PropertyWrites:
        return PropertyWrites(self.store, self.clock, self.counts, self._send)

    def _send(self, device: str, _name: str, value: Value) -> asyncio.Future[None]:
        self.sent.append((device, value))
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        confirmed.set_result(None)
        return self.answers.get(device, confirmed)

    def count(self, device: str) -> int:
        return sum(each == device for each, _ in self.sent)

    async def stored(self) -> list[tuple[str, Value]]:
        return [(each.device, each.value) for each in await self.store.read(repository.load_writes)]

    async def wait_until_all_are_processed(self, writes: PropertyWrites) -> None:
        """Submit a write and wait for its repeat: by then all other due writes have been processed."""
        await writes.submit("last", "p", True, 100, None)
        self.clock.advance(2)
        await until(lambda: self.count("last") > 1)


@asynccontextmanager
async def running(writes: PropertyWrites) -> AsyncIterator[None]:
    """Run ``writes`` inside the block; raise the exception if it ends early."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(writes.run())
        yield
        task.cancel()


def block_writes(monkeypatch: pytest.MonkeyPatch, store: Store) -> asyncio.Event:
    """Block all writes of the store until the returned event is set."""
    free, write = asyncio.Event(), store.write

    async def waiting(change: Callable[..., object]) -> object:
        await free.wait()
        return await write(change)

    monkeypatch.setattr(store, "write", waiting)
    return free


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_write_the_broker_denies_late_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, *, restarted: bool
) -> None:
    monkeypatch.setattr("process_cosmos_gateway.devices.things.property_writes._CONFIRMATION_SECONDS", 0.01)
    async with opened(tmp_path) as store:
        harness = WritesHarness(store)
        writes = harness.writes()
        answer = harness.answers["valve"] = asyncio.get_running_loop().create_future()
        assert await writes.submit("valve", "p", True, 100, None)
        if restarted:
            writes = harness.writes()
            await writes.load()
            harness.clock.advance(2)
        answer.set_exception(DeniedError("broker_denied"))
        async with running(writes):
            await until(lambda: harness.counts["writes_denied"])
            await harness.wait_until_all_are_processed(writes)
        assert harness.count("valve") == (2 if restarted else 1)
        assert ("valve", True) not in await harness.stored()
        assert "write_denied" in caplog.text


@pytest.mark.parametrize("lasts", [1, 100])
async def test_a_write_confirmed_while_the_store_is_busy_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasts: float
) -> None:
    async with opened(tmp_path) as store:
        harness = WritesHarness(store)
        writes = harness.writes()
        await writes.submit("first", "p", True, 1, None)
        await writes.submit("valve", "p", True, lasts, None)
        harness.clock.advance(2)
        free = block_writes(monkeypatch, store)
        async with running(writes):
            await until(lambda: harness.counts["writes_expired"])
            assert writes.note_reported("valve", "p", True)
            free.set()
            await harness.wait_until_all_are_processed(writes)
        assert harness.count("valve") == 1
        assert harness.counts["writes_expired"] == 1


async def test_a_newer_write_submitted_while_the_store_is_busy_continues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as store:
        harness = WritesHarness(store)
        writes = harness.writes()
        await writes.submit("first", "p", True, 1, None)
        await writes.submit("valve", "p", True, 1, None)
        harness.clock.advance(2)
        free = block_writes(monkeypatch, store)
        async with running(writes):
            await until(lambda: harness.counts["writes_expired"])
            newer = asyncio.create_task(writes.submit("valve", "p", False, 100, None))
            await until(lambda: ("valve", False) in harness.sent)
            free.set()
            await newer
            await harness.wait_until_all_are_processed(writes)
        assert harness.sent.count(("valve", False)) > 1
        assert ("valve", False) in await harness.stored()


async def test_a_number_reported_in_another_notation_deletes_the_stored_write(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        harness = WritesHarness(store)
        writes = harness.writes()
        await writes.submit("heater", "setpoint", 20.0, 100, None)
        confirmed = writes.note_reported("heater", "setpoint", 20)
        assert confirmed
        await store.write(confirmed)
        assert await harness.stored() == []


async def test_a_write_that_could_not_be_stored_is_not_repeated(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    vfs = SyncCountingVfs("refusing")
    request.addfinalizer(vfs.unregister)
    async with opened(tmp_path, vfs="refusing") as store:
        harness = WritesHarness(store)
        writes = harness.writes()
        async with running(writes):
            vfs.fail_next_syncs = 1
            with pytest.raises(StoreError):
                await writes.submit("valve", "p", False, 100, True)
            await harness.wait_until_all_are_processed(writes)
        assert harness.count("valve") == 1
