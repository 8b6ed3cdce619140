"""Every entry point refuses hostile JSON without affecting the messages before and after it."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from process_cosmos_cloud.__main__ import _line, _reading_line
from process_cosmos_cloud.arrivals import read_arrivals, store_batch
from process_cosmos_cloud.batches import BatchReader
from process_cosmos_cloud.database import open_database
from process_cosmos_cloud.readings import read_readings
from process_cosmos_gateway.contract.bounds import is_deeper, write_json
from process_cosmos_gateway.contract.codec import decode, decode_json, encode
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.devices import Snapshot
from process_cosmos_gateway.contract.errors import Code, ContractError
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.local_programs import LONGEST_PUBLISH
from process_cosmos_gateway.contract.messages import FROM_GATEWAY, FROM_HOME_ASSISTANT, DeviceChange
from process_cosmos_gateway.destinations.http_request import Reply
from process_cosmos_gateway.destinations.inbox import parse_inbox_page
from process_cosmos_gateway.destinations.settings import WebhookSettings
from process_cosmos_gateway.destinations.webhook import Webhook
from process_cosmos_gateway.devices import Devices, repository
from process_cosmos_gateway.devices.mqtt.connection import Message
from process_cosmos_gateway.devices.things.rate_limiter import InboundMessage
from process_cosmos_gateway.options import BrokerOptions, OptionsError, parse_options
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Transaction
from tests.support.hostile import HEALTHY, LEVELS, documents, is_json, nested

from .alerts.parts import alert, gateway, leak_opened
from .api.endpoints import publish, with_endpoints
from .store.parts import HandClock, new_ulids, opened

ACCEPTED = "accepted"
GARBAGE = "garbage"
SITE = Ulid("01K8J5Z0000000000000000001")

type Attack = Callable[[bytes], Awaitable[str]]
"""Sends one hostile value to an entry point; returns the outcome: ``ACCEPTED``, or the code of the refusal."""

type Entrance = Callable[[Path], AbstractAsyncContextManager[Attack]]


def free_port() -> int:
    """Return an unused port."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


async def deliver_all(outbox: Outbox, destination: str) -> Sequence[Any]:
    """Deliver all events waiting for a destination and return them parsed; assert that none is nested too deeply."""
    delivered = []
    while deliveries := await outbox.deliveries(destination, 500):
        delivered += [orjson.loads(delivery.body) for delivery in deliveries]
        await outbox.settle(destination, [(delivery, Delivered()) for delivery in deliveries])
    assert not any(is_deeper(each) for each in delivered)
    return delivered


@asynccontextmanager
async def a_program(folder: Path) -> AsyncIterator[Attack]:
    """Attack the ``data`` of a message at ``/ws/events``."""
    numbers = count(1)
    async with with_endpoints(folder, free_port()) as endpoints:
        await endpoints.outbox.register("cloud", [EventKind.DEVICE])
        producer = await endpoints.producer()

        async def attack(text: bytes) -> str:
            number = next(numbers)
            frame = orjson.dumps(publish(number, data="HERE")).replace(b'"HERE"', text)
            if len(frame) > LONGEST_PUBLISH:
                return Code.TOO_LARGE
            await producer.send(frame)
            [result] = await producer.frame()
            assert result["id"] in (str(number), "")
            assert result["id"] or not is_json(frame)
            assert len(await deliver_all(endpoints.outbox, "cloud")) == (result["problem"] is None)
            return result["problem"]["code"] if result["problem"] else ACCEPTED

        yield attack


@asynccontextmanager
async def home_assistant(folder: Path) -> AsyncIterator[Attack]:
    """Attack the ``data`` of an alert in a frame of the integration."""
    numbers = count(2)
    async with gateway(folder, HandClock(), ("cloud",)) as parts:
        await parts.opens_session()

        async def attack(text: bytes) -> str:
            number = next(numbers)
            opening = leak_opened(new_ulids()(), ())
            [change] = opening.changes
            message = replace(
                opening,
                position=replace(opening.position, n=number),
                changes=(replace(change, alert=alert(data="HERE", revision=number)),),
            )
            frame = orjson.dumps({"type": message.type, **orjson.loads(orjson.dumps(message))}).replace(b'"HERE"', text)
            try:
                read: Any = decode(frame, FROM_HOME_ASSISTANT, cuts=True)
            except ContractError as error:
                return error.code
            await parts.alerts.apply(read)
            await parts.alerts.process_due_requests()
            assert len(await deliver_all(parts.outbox, "cloud")) == 1
            await parts.alerts.cursor_and_summaries()
            return ACCEPTED

        yield attack


@asynccontextmanager
async def a_device(folder: Path, topic: str) -> AsyncIterator[Attack]:
    async with opened(folder) as store:
        outbox, numbers = Outbox(store, HandClock()), count(1)
        await outbox.register("cloud", set(EventKind))
        devices = Devices(store, outbox, HandClock(), new_ulids(), BrokerOptions(host="127.0.0.1", port=1))
        handler, changes = devices._message_handler, list[DeviceChange]()
        devices.watch(changes.append)
        form = {"forms": [{"href": "mqtt://b/wot/attic/level", "op": ["readproperty", "observeproperty"]}]}
        event = {"forms": [{"href": "mqtt://b/wot/attic/door", "op": "subscribeevent"}]}
        description = {
            "title": "Attic",
            "properties": {"level": {"type": "number", **form}},
            "events": {"door": event},
        }

        async def say(where: str, payload: bytes) -> None:
            message = Message(topic=where, payload=payload, number=next(numbers))
            result = handler.handle(InboundMessage(message=message))

            def change(transaction: Transaction) -> None:
                for each in result.changes:
                    each(transaction)

            await store.write(change)

        await say("wot/attic/td", orjson.dumps(description))
        assert devices.devices()

        async def attack(text: bytes) -> str:
            before = devices.counts.copy()
            payload = text
            if topic == "wot/attic/td":
                described = {"level": {"type": "number", "minimum": "HERE", **form}}
                payload = orjson.dumps({**description, "properties": described, "x": "HERE"}).replace(b'"HERE"', text)
            await say(topic, payload)
            for message in [*changes, Snapshot(sequence=1, devices=devices.devices())]:
                decode(encode(message), FROM_GATEWAY)
            changes.clear()
            await deliver_all(outbox, "cloud")
            assert await store.read(repository.load_devices)
            refused = devices.counts - before
            return GARBAGE if refused[GARBAGE] or refused[Code.DESCRIPTION_INVALID] else ACCEPTED

        yield attack


def device_value(folder: Path) -> AbstractAsyncContextManager[Attack]:
    """Attack the payload of a property: a value, or SenML."""
    return a_device(folder, "wot/attic/level")


def device_event(folder: Path) -> AbstractAsyncContextManager[Attack]:
    """Attack the payload of a device event."""
    return a_device(folder, "wot/attic/door")


def description(folder: Path) -> AbstractAsyncContextManager[Attack]:
    """Attack a member of a Thing Description."""
    return a_device(folder, "wot/attic/td")


@asynccontextmanager
async def webhook_reply(folder: Path) -> AsyncIterator[Attack]:
    """Attack with a receiver's reply that contains an answer."""
    async with gateway(folder, HandClock(), ("hook",)) as parts:
        await parts.opens_session()
        await parts.alerts.apply(leak_opened(new_ulids()(), ()))
        [delivery] = await parts.outbox.deliveries("hook", 1)
        hook = Webhook(WebhookSettings(name="hook", url="https://h/", kinds=()))

        async def attack(text: bytes) -> str:
            body = b'{"answer":"turn_on","more":' + text + b"}"
            items = hook._parse_answers(delivery, Reply(status=200, body=body))
            await parts.store.write(lambda transaction: parts.alerts.add_proposals(transaction, items, "hook"))
            await parts.alerts.process_due_requests()
            return ACCEPTED if items else GARBAGE

        yield attack
        await hook.close()


@asynccontextmanager
async def inbox(folder: Path) -> AsyncIterator[Attack]:
    """Attack a member of one item in the cloud endpoint's inbox."""
    numbers = count(1)
    async with gateway(folder, HandClock(), ("cloud",)) as parts:
        await parts.opens_session()

        async def attack(text: bytes) -> str:
            items = [
                {"id": f"i{number}", "cursor": number, "alert": SITE, "by": "Ada", "age": 1.0, "answer": "x"}
                for number in (next(numbers), next(numbers), next(numbers))
            ]
            items[1]["acknowledge_for"] = "HERE"
            page = orjson.dumps({"items": items}).replace(b'"HERE"', text)
            try:
                polled = parse_inbox_page("cloud", page, 0, lambda _path, _reason: None)
            except ContractError as error:
                return error.code
            assert polled.cursor == items[2]["cursor"]
            read = {item.id for item in polled.items}
            assert {items[0]["id"], items[2]["id"]} <= read
            await parts.store.write(lambda transaction: parts.alerts.add_proposals(transaction, polled.items, "cloud"))
            await parts.alerts.process_due_requests()
            await parts.opens_session()
            assert not any(is_deeper(decode_json(write_json(each))) for each in parts.sent)
            return ACCEPTED if items[1]["id"] in read else GARBAGE

        yield attack


@asynccontextmanager
async def pairing(folder: Path) -> AsyncIterator[Attack]:
    """Attack the body of ``POST /v1/pair``."""
    async with with_endpoints(folder, free_port()) as endpoints:

        async def attack(text: bytes) -> str:
            body = b'{"secret":"none","instance":"home","more":' + text + b"}"
            async with endpoints.http.post(f"{endpoints.url}/v1/pair", data=body) as reply:
                code: str = orjson.loads(await reply.read())["code"]
            return ACCEPTED if code == Code.PAIRING_REFUSED else code

        yield attack


@asynccontextmanager
async def cloud_batch(folder: Path, separator: bytes = b",\n", member: bytes = b'"data":HERE') -> AsyncIterator[Attack]:
    numbers = count(1)
    connection = open_database(folder / "cloud.sqlite")

    def event(text: bytes) -> bytes:
        head = orjson.dumps({"specversion": "1.0", "id": str(next(numbers)), "source": f"/sites/{SITE}", "type": "t"})
        return head[:-1] + b"," + member.replace(b"HERE", text) + b"}"

    async def attack(text: bytes) -> str:
        body = b"[" + separator.join([event(b"1"), event(text), event(b"1")]) + b"]"
        with connection:
            try:
                reader = BatchReader(body, SITE)
                while not reader.read_some():
                    pass
                receipt = store_batch(connection, SITE, reader.batch, 1.0, "t")
            except ContractError as error:
                return error.code
        codes = {item.index: item.problem.code for item in receipt.rejected}
        if b"senml" not in member:
            assert codes.keys() <= {1}
        for arrival in list(read_arrivals(connection))[-3:]:
            assert orjson.loads(write_json(arrival))
            assert _line(arrival)
        for reading in read_readings(connection):
            assert orjson.loads(write_json(reading))
            assert _reading_line(reading)
        return codes.get(1, ACCEPTED)

    yield attack
    connection.close()


def foreign_batch(folder: Path) -> AbstractAsyncContextManager[Attack]:
    """Attack with a batch written by another encoder."""
    return cloud_batch(folder, b", ")


def reading_batch(folder: Path) -> AbstractAsyncContextManager[Attack]:
    """Attack time and value of a reading in a reading batch."""
    record = b'[{"n":"a/b","v":1},{"n":"a/b","t":1,"v":1,"more":HERE},{"n":"a/b","v":HERE,"t":HERE}]'
    return cloud_batch(folder, member=b'"datacontenttype":"application/senml+json","data":' + record)


DEEP_IS_REFUSED: dict[str, tuple[Entrance, str]] = {
    "program": (a_program, Code.TOO_DEEP),
    "device value": (device_value, GARBAGE),
    "device event": (device_event, GARBAGE),
    "description": (description, GARBAGE),
    "webhook reply": (webhook_reply, GARBAGE),
    "pairing": (pairing, Code.TOO_DEEP),
    "batch": (cloud_batch, Code.TOO_DEEP),
    "batch of another encoder": (foreign_batch, Code.TOO_DEEP),
    "reading batch": (reading_batch, Code.TOO_DEEP),
}
"""Entry points open to unauthenticated clients: too deep values are refused with this code."""

DEEP_IS_CUT: dict[str, tuple[Entrance, str]] = {"Home Assistant": (home_assistant, ACCEPTED), "inbox": (inbox, GARBAGE)}
"""Entry points of alerts and answers: they are accepted without the members that are too deep."""

ENTRANCES = {**DEEP_IS_REFUSED, **DEEP_IS_CUT}
HEALTHY_VALUES = {"inbox": b"60", "reading batch": b"5", "device value": b'[{"v":5}]', "description": b"-5"}


@pytest.mark.parametrize("name", ENTRANCES)
async def test_the_attack_reaches_the_entry_point_and_depth_is_refused(tmp_path: Path, name: str) -> None:
    entrance, outcome = ENTRANCES[name]
    healthy = HEALTHY_VALUES.get(name, HEALTHY)
    async with entrance(tmp_path) as attack:
        for levels in LEVELS:
            assert await attack(healthy) == ACCEPTED
            # Beyond 1,024 levels, including those around it, orjson parses nothing.
            assert await attack(nested(levels)) in ({outcome} if levels < 1000 else {outcome, Code.MALFORMED, GARBAGE})
        assert await attack(healthy) == ACCEPTED


@pytest.mark.parametrize("name", ENTRANCES)
@settings(max_examples=4, deadline=None, suppress_health_check=[*HealthCheck])
@given(texts=st.lists(documents, min_size=5, max_size=20))
async def test_no_value_stops_later_messages_at_the_same_entry_point(
    tmp_path_factory: pytest.TempPathFactory, name: str, texts: Sequence[bytes]
) -> None:
    entrance, _ = ENTRANCES[name]
    healthy = HEALTHY_VALUES.get(name, HEALTHY)
    async with entrance(tmp_path_factory.mktemp("entrance")) as attack:
        for text in texts:
            assert await attack(text) in {ACCEPTED, GARBAGE, *Code}
            assert await attack(healthy) == ACCEPTED


OPTIONS = ("data", "host", "port", "reserve_mb", "reading_linger", "daily_mb", "volume", "mqtt_host", "mqtt_topics")


@given(text=documents, name=st.sampled_from(OPTIONS))
def test_an_option_is_parsed_or_refused_with_its_name(text: bytes, name: str) -> None:
    value = orjson.loads(text) if is_json(text) else text.decode("latin-1")
    mistakes: Sequence[str] = ()
    try:
        parse_options({"data": "/data", name: value})
    except OptionsError as error:
        mistakes = error.mistakes
    assert all(mistake.startswith((name, "mqtt")) for mistake in mistakes)
