"""The receiver printed in docs/destinations.md, run as printed, with every kind of event."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest

from process_cosmos_gateway.contract.destinations import EventKind, LinkState, Priority, TestDestination, Waiting
from process_cosmos_gateway.contract.events import event_type
from process_cosmos_gateway.outbox import GAP_KEY, Event, OutgoingReading, device_key
from process_cosmos_testbed.processes import free_port
from tests.support.documents import TOP, blocks
from tests.support.waiting import until

from .conftest import Site
from .parts import delivery, event, event_id

BLUEPRINT = TOP / "blueprints/automation/process_cosmos/leak_guard.yaml"


def program() -> str:
    """Return the page's one Python block."""
    [block] = blocks("docs/destinations.md", "python")
    assert len([line for line in block.splitlines() if line.strip()]) <= 42
    return block


async def listening(port: int) -> None:
    """Wait until the port accepts connections."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                continue
            writer.close()
            return


@pytest.fixture
async def documented(tmp_path: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    (tmp_path / "receiver.py").write_text(program())
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", "receiver.py", str(port), cwd=tmp_path, stdout=-1, stderr=asyncio.subprocess.DEVNULL
    )
    await listening(port)
    yield f"http://127.0.0.1:{port}/", process
    if process.returncode is None:
        process.kill()
    await process.wait()


async def test_it_accepts_an_event_and_answers_it(
    site: Site, documented: tuple[str, asyncio.subprocess.Process]
) -> None:
    await site.set_webhook(documented[0])
    await site.accept(1)
    await until(lambda: bool(site.alerts.stored))

    [(_, item)] = site.alerts.stored
    assert item.answer == "Keep off"
    await until(lambda: site.link("hook").state is LinkState.CONNECTED)
    assert await site.waiting() == 0


async def test_it_accepts_a_test_event_without_an_answer(
    site: Site, documented: tuple[str, asyncio.subprocess.Process]
) -> None:
    url, process = documented
    await site.set_webhook(url)
    tested = await site.destinations.test(TestDestination(id="1", name="hook"))
    assert (tested.delivered, tested.reply) == (True, "{}")
    process.terminate()
    assert process.stdout is not None
    assert (await process.stdout.read()).startswith(b"process_cosmos.test.v1 This is a test.")
    assert site.alerts.stored == []


async def test_it_acts_once_and_repeats_its_reply(
    documented: tuple[str, asyncio.subprocess.Process],
) -> None:
    url, process = documented
    async with aiohttp.ClientSession() as session:
        for number in (1, 1, 2):
            async with session.post(url, data=delivery(number).body) as response:
                assert response.status == 200
                assert await response.json() == {"answer": "Keep off"}
        async with session.post(url, data=b"<html>") as response:
            assert response.status == 400
    process.terminate()
    assert process.stdout is not None
    printed = (await process.stdout.read()).decode().splitlines()
    assert printed == ["process_cosmos.alert.opened.v1 Water in the cellar"] * 2


def of_device(number: int, kind: str, subject: str, data: object) -> Event:
    """Return an event as created for devices or the broker's session."""
    return Event(
        id=event_id(number),
        type=kind,
        kind=EventKind.DEVICE,
        priority=Priority.CHANGE,
        subject=subject,
        key=GAP_KEY if subject == "broker" else device_key(subject),
        time=datetime(2026, 11, 22, 10, tzinfo=UTC),
        data=data,
    )


def others() -> Sequence[Event]:
    """Return one event of each kind except alerts, readings and tests."""
    about = {"device": "wot/leak", "title": "Leak"}
    gap = {"reason": "session_lost", "since": None, "until": datetime(2026, 11, 22, 10, tzinfo=UTC)}
    return (
        of_device(2, event_type("device", "changed"), "wot/leak", {**about, "property": "wet", "value": True}),
        of_device(3, event_type("device", "changed"), "wot/leak", {**about, "online": False}),
        of_device(4, event_type("device", "event"), "wot/leak", {**about, "event": "pressed", "value": None}),
        of_device(5, event_type("gap"), "broker", gap),
        of_device(6, "com.example.pump.started.v1", "pump-1", 17),
        of_device(7, "com.example.pump.note.v1", "pump-1", None),
    )


async def test_it_accepts_every_kind_of_event(site: Site, documented: tuple[str, asyncio.subprocess.Process]) -> None:
    url, process = documented
    await site.set_webhook(url, kinds=tuple(EventKind))
    await site.outbox.accept(event(1))
    for each in others():
        await site.outbox.accept(each)
    readings = [
        OutgoingReading(device="wot/meter", property="level", unit="l", time=1.0, value=1.5),
        OutgoingReading(device="wot/door", property="angle", unit=None, time=2.0, value=90),
    ]
    await site.store.write(lambda transaction: site.outbox.add_readings(transaction, readings))
    async with asyncio.timeout(20):
        while (await site.outbox.depths()).waiting != Waiting():  # noqa: ASYNC110 - the queue sends no notification
            await asyncio.sleep(0.01)
    tested = await site.destinations.test(TestDestination(id="1", name="hook"))

    process.terminate()
    assert process.stdout is not None
    said = (await process.stdout.read()).decode().splitlines()
    assert tested.delivered
    assert not await site.outbox.rejected()
    assert site.link("hook").state is LinkState.CONNECTED
    assert sorted(said) == sorted(
        [
            "process_cosmos.alert.opened.v1 Water in the cellar",
            *(f"{each.type} {each.subject}" for each in others()),
            "process_cosmos.readings.v1 readings",
            "process_cosmos.test.v1 This is a test. Nothing has happened and no action is needed.",
        ]
    )


def test_its_answer_is_one_the_leak_guard_offers() -> None:
    said = BLUEPRINT.read_text("utf-8")
    assert "- name: Turn on again\n" in said
    assert "- name: Keep off\n" in said
    assert 'return "Keep off" if' in program()
