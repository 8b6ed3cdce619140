"""A devices service that kills itself: ``python -m tests.gateway.devices.crashing FOLDER PORT MOMENT LINGER``.

``commit``: a message was reported to Home Assistant and is not on disk. ``ack``: it is on disk and not acknowledged.
Every change reported to Home Assistant is a line on standard output.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from process_cosmos_gateway.clock import SystemClock
from process_cosmos_gateway.contract.codec import encode
from process_cosmos_gateway.contract.messages import DeviceChange
from process_cosmos_gateway.devices import Devices, message_writer
from process_cosmos_gateway.devices.mqtt.connection import Connection, Message
from process_cosmos_gateway.options import BrokerOptions, ReadingOptions
from process_cosmos_gateway.outbox import Outbox
from tests.gateway.store.parts import new_ulids, opened


def die(*_: object) -> None:
    """Kill this process with SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def report(change: DeviceChange) -> None:
    """Write a change to standard output."""
    os.write(1, encode(change) + b"\n")


async def main(folder: Path, port: int, moment: str, linger: float) -> None:
    """Run until the first message of a property or a device event."""
    acknowledge, apply_batch = Connection.acknowledge, message_writer._apply_batch

    def crashing_acknowledge(self: Connection, message: Message) -> bool:
        if moment == "ack" and "/td" not in (message.topic or ""):
            die()
        return acknowledge(self, message)

    def crashing_apply(transaction, batch, unconfirmed):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - as message_writer._apply_batch
        if moment == "commit" and any("/td" not in (pending.message.topic or "") for pending in batch):
            die()
        return apply_batch(transaction, batch, unconfirmed)

    Connection.acknowledge = crashing_acknowledge  # type: ignore[method-assign] # replaced to crash
    message_writer._apply_batch = crashing_apply
    async with opened(folder) as store:
        broker = BrokerOptions(host="127.0.0.1", port=port)
        outbox = Outbox(store, SystemClock())
        devices = Devices(
            store, outbox, SystemClock(), new_ulids(), broker, readings=ReadingOptions(reading_linger=linger)
        )
        devices.watch(report)
        await devices.run()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))
