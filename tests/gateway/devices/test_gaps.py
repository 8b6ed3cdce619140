"""What may have been missed is told: sessions the broker lost, messages it dropped, another with our name."""

import asyncio
from pathlib import Path

import pytest

from process_cosmos_gateway.devices.mqtt.connection import Connection
from process_cosmos_gateway.devices.mqtt.mqtt_session import DROPPED_TOPIC
from process_cosmos_gateway.errors import StoreError
from tests.brokers import Broker, running_broker

from .parts import Hearing, client, hearing, ready, until

LEVEL = "wot/tank/properties/level"
GAP = "process_cosmos.gap.v1"


def is_gap(event: dict[str, object]) -> bool:
    return event["type"] == GAP


async def restarted(broker: Broker, heard: Hearing, *, forgetful: bool) -> None:
    broker.kill() if forgetful else broker.stop()
    await until(lambda: not heard.devices.broker_connected)
    if forgetful:
        broker.forget()
    await broker.start()
    await until(lambda: heard.devices.broker_connected)


async def test_a_first_connection_is_no_gap_and_a_session_the_broker_kept_neither(
    broker: Broker, tmp_path: Path
) -> None:
    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await ready(heard, tank)
    async with hearing(tmp_path, broker.options) as heard:
        await restarted(broker, heard, forgetful=False)
        assert heard.devices.gaps == 0
        assert not list(filter(is_gap, await heard.drained()))


async def test_a_session_the_broker_lost_is_a_gap_also_after_a_restart_of_ours_and_counted_for_ever(
    broker: Broker, tmp_path: Path
) -> None:
    async with hearing(tmp_path, broker.options) as heard:
        async with client(broker.options) as tank:
            await ready(heard, tank)
        await restarted(broker, heard, forgetful=True)
        [gap] = await heard.until_drained(is_gap, 1)
        assert (gap["subject"], gap["data"]["reason"]) == ("broker", "session_lost")
        assert gap["data"]["since"] < gap["data"]["until"] == gap["time"]
        assert heard.devices.gaps == 1
    broker.kill()
    broker.forget()
    await broker.start()
    async with hearing(tmp_path, broker.options) as heard:
        assert heard.devices.gaps == 2
        await heard.until_drained(is_gap, 1)
    async with hearing(tmp_path, broker.options) as heard:
        assert heard.devices.gaps == 2


async def test_a_lost_session_is_a_gap_also_when_the_disk_fails_while_the_broker_begins_the_next(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        tried = False

        async def write(self, _: object) -> None:
            self.tried = True
            raise StoreError("the disk is full")

    async with hearing(tmp_path, broker.options) as heard, client(broker.options) as tank:
        await ready(heard, tank)
        name = heard.devices._session.name
        broker.kill()
        await until(lambda: not heard.devices.broker_connected)
        broker.forget()
        full = FullDisk()
        with monkeypatch.context() as disk:
            disk.setattr(heard.devices._session, "_store", full)
            await broker.start()
            await until(lambda: full.tried)
        await until(lambda: heard.devices.broker_connected)
        await heard.until_drained(is_gap, 1)
        assert heard.devices.gaps == 1
        assert heard.devices._session.name != name, "a message's number means another message now"


async def test_what_a_broker_drops_while_the_gateway_is_away_is_seen_when_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    lines = ("allow_anonymous true", "max_queued_messages 10", "sys_interval 1")
    async with running_broker(folder, lines) as broker, client(broker.options, topics=[DROPPED_TOPIC]) as tank:
        async with hearing(tmp_path / "data", broker.options) as heard:
            await ready(heard, tank)
            await heard.until_rows("SELECT value FROM device_counter WHERE name = 'broker_count'", [(0,)])
            assert heard.devices.broker_dropped == 0
        for value in range(100):
            await tank.say(LEVEL, value)
        await until(lambda: tank.heard[-1].payload != b"0")
        async with hearing(tmp_path / "data", broker.options) as heard:
            await until(lambda: heard.devices.broker_dropped > 50)
            assert heard.devices.gaps == 0
            dropped = heard.devices.broker_dropped
            await heard.until_rows("SELECT value FROM device_counter WHERE name = 'broker_dropped'", [(dropped,)])


async def test_a_broker_that_begins_to_count_anew_drops_more_not_less(tmp_path: Path, broker: Broker) -> None:
    async with hearing(tmp_path, broker.options) as heard:
        session = heard.devices._session
        session._broker_count = -1
        for payload, dropped in (
            (b"500", 0),
            (b"502", 2),
            (b"502", 2),
            (b"3", 5),
            (b"", 5),
            (b"-1", 5),
            (b"9" * 5000, 5),
        ):
            session.note_dropped_count(payload)
            assert session.broker_dropped == dropped


async def test_another_with_our_name_is_a_conflict_of_identity_until_it_has_been_gone_for_a_while(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hearing(tmp_path, broker.options) as heard:
        name = f"process-cosmos-{heard.store.site}"
        for _ in range(2):
            await until(lambda: heard.devices.broker_connected)
            assert not heard.devices.identity_conflict
            other = await Connection.open(broker.options, client_id=name, on_message=lambda *_: None)
            await until(lambda: not heard.devices.broker_connected)
            other.close()
        await until(lambda: heard.devices.identity_conflict)
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now + 301, raising=False)
        assert not heard.devices.identity_conflict
        monkeypatch.undo()
