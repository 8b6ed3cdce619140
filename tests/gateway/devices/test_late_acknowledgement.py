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
        self.received: list[Message] = []
        self.connection: Connection

    async def wait_for_payloads(self, *payloads: bytes) -> None:
        await until(lambda: tuple(message.payload for message in self.received) == payloads)


@asynccontextmanager
async def connected(broker: Broker, *, keep_session: bool = True) -> AsyncIterator[Session]:
    """Be connected; go as at a power cut."""
    session = Session()
    session.connection = await Connection.open(
        broker.options,
        client_id=NAME,
        on_message=lambda _, message: session.received.append(message),
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
            await tank.publish(TOPIC, 1)
            await first.wait_for_payloads(b"1")
        async with connected(broker, keep_session=False):
            pass  # the broker forgets the session, and message 1 with it
        async with connected(broker) as second:
            await tank.publish(TOPIC, 2)
            await second.wait_for_payloads(b"2")
            assert second.received[0].number == first.received[0].number  # the fault is there
            first.connection.acknowledge(first.received[0])
            # The broker answers in order: when it confirms this, it has read what was sent before.
            await second.connection.publish("elsewhere", b"")
        async with connected(broker) as third:
            await third.wait_for_payloads(b"2")
            assert third.received[0].redelivered
