"""A late acknowledgement must not confirm a message of a new session, whose packet ids start at one again."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_testbed.broker import Broker
from tests.support.waiting import until

from .parts import client

NAME = "gateway"
TOPIC = "tank/level"


class KeptSession:
    """A connection that keeps its session and does not acknowledge messages by itself."""

    def __init__(self) -> None:
        self.received: list[Message] = []
        self.connection: Connection

    async def wait_for_payloads(self, *payloads: bytes) -> None:
        await until(lambda: tuple(message.payload for message in self.received) == payloads)


@asynccontextmanager
async def connected(broker: Broker, *, keep_session: bool = True) -> AsyncIterator[KeptSession]:
    """Connect; at the end drop the connection as a power failure would."""
    session = KeptSession()
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
            pass  # the broker deletes the session, and message 1 with it
        async with connected(broker) as second:
            await tank.publish(TOPIC, 2)
            await second.wait_for_payloads(b"2")
            assert second.received[0].number == first.received[0].number  # the condition of the fault
            first.connection.acknowledge(first.received[0])
            # The broker answers in order: once it confirms this, it has read the acknowledgement.
            await second.connection.publish("elsewhere", b"")
        async with connected(broker) as third:
            await third.wait_for_payloads(b"2")
            assert third.received[0].redelivered
