"""A broker that lost its session counts from one again: a late acknowledgement would confirm another message."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from tests.brokers import Broker

from .parts import client, until

NAME = "gateway"
TOPIC = "tank/level"


class Session:
    """A connection of a gateway that keeps its session and acknowledges nothing by itself."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.connection: Connection

    async def until_heard(self, *payloads: bytes) -> None:
        await until(lambda: tuple(message.payload for message in self.heard) == payloads)


@asynccontextmanager
async def connected(broker: Broker, *, keep_session: bool = True) -> AsyncIterator[Session]:
    """Be connected; go as at a power cut."""
    session = Session()
    session.connection = await Connection.open(
        broker.options,
        client_id=NAME,
        on_message=lambda _, message: session.heard.append(message),
        keep_session=keep_session,
    )
    await session.connection.subscribe([TOPIC])
    try:
        yield session
    finally:
        session.connection.drop()


async def test_an_acknowledgement_of_an_older_connection_confirms_nothing_of_the_next(broker: Broker) -> None:
    async with client(broker.options) as tank:
        async with connected(broker) as first:
            await tank.say(TOPIC, 1)
            await first.until_heard(b"1")
        async with connected(broker, keep_session=False):
            pass  # the broker forgets the session, and message 1 with it
        async with connected(broker) as second:
            await tank.say(TOPIC, 2)
            await second.until_heard(b"2")
            assert second.heard[0].number == first.heard[0].number  # the fault is there
            first.connection.acknowledge(first.heard[0])
            # The broker answers in order: when it confirms this, it has read what was sent before.
            await second.connection.publish("elsewhere", b"")
        async with connected(broker) as third:
            await third.until_heard(b"2")
            assert third.heard[0].redelivered
