"""Integration and gateway in one process, with a simulated cloud and a connection that can be cut."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import apsw
import orjson

from custom_components.process_cosmos.contract import alerts as alert_messages
from custom_components.process_cosmos.contract import session as session_messages
from custom_components.process_cosmos.contract.codec import decode, encode
from custom_components.process_cosmos.contract.messages import FROM_GATEWAY, FromHomeAssistant
from custom_components.process_cosmos.gateway.client import GatewayAwayError
from process_cosmos_gateway.alerts import Alerts
from process_cosmos_gateway.contract import codec
from process_cosmos_gateway.contract.alerts import CaughtUp, Notified, Propose, Transition
from process_cosmos_gateway.contract.cloud import InboxItem
from process_cosmos_gateway.contract.destinations import EventKind
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.contract.messages import FROM_HOME_ASSISTANT
from process_cosmos_gateway.contract.session import Committed, GatewayHello, Result
from process_cosmos_gateway.outbox import Delivered, Outbox
from process_cosmos_gateway.store import Store
from tests.gateway.powercut.disk import Disk, Image, Kept
from tests.gateway.powercut.recorder import lay_out, recorded
from tests.gateway.store.parts import HandClock, new_ulids

from .site import Site

CLOUD = "cloud"


@dataclass
class Cloud:
    """Cloud that stores each event once by id, in order, and returns all of its answers at each poll."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    items: list[InboxItem] = field(default_factory=list)

    def receive(self, body: bytes) -> None:
        event = orjson.loads(body)
        assert self.events.setdefault(event["id"], event) == event, "an event id was used for different content"

    def events_of(self, alert: str) -> Sequence[tuple[str, dict[str, Any]]]:
        """Return kind and data of each event of an alert, in order."""
        return [
            (event["type"].split(".")[2], event["data"])
            for event in self.events.values()
            if event["data"]["alert"] == alert
        ]

    def newest(self) -> dict[str, Any] | None:
        return next((event["data"] for event in reversed(self.events.values())), None)

    def answer(self, answer: str | None, *, outdated: bool) -> None:
        """Answer (None: acknowledge) the newest event's alert, in its revision or (``outdated``) the one before."""
        if newest := self.newest():
            item = InboxItem(
                id=f"item-{len(self.items)}",
                cursor=len(self.items) + 1,
                alert=Ulid(newest["alert"]),
                by="Eve",
                age=0.0,
                revision=max(1, newest["revision"] - outdated),
                answer=answer,
                acknowledge_for=None if answer else 600.0,
            )
            self.items.append(item)


class GatewaySide:
    """Store, outbox and alerts of a gateway on a simulated disk that can lose power."""

    def __init__(self, folder: Path, clock: HandClock) -> None:
        self._folder = folder
        self._clock = clock
        self._start_count = 0
        self.sent: list[Notified | Propose] = []

    async def start(self, image: Image) -> None:
        """Start with the files of a disk image."""
        self._start_count += 1
        self.live_folder = self._folder / str(self._start_count)
        lay_out(image, self.live_folder)
        self.disk = Disk(image)
        self._recording = recorded(self.live_folder, self.disk)
        vfs = self._recording.__enter__()
        self.store = await Store.open(self.live_folder, new_ulids(), vfs=vfs)
        self.outbox = Outbox(self.store, self._clock)
        self.alerts = await Alerts.open(self.store, self.outbox, self._clock)
        await self.outbox.register(CLOUD, (EventKind.ALERT,))

    async def stop(self) -> None:
        await self.store.close()
        self._recording.__exit__(None, None, None)

    async def cut(self, since: int, fraction: float, kept: Kept, random: Random) -> None:
        """Lose power at the given fraction of the disk steps after ``since``, and restart from the remaining files."""
        step = since + round(fraction * (len(self.disk.steps) - since))
        image = self.disk.cut(step, kept, random)
        await self.stop()
        await self.start(image)

    async def backup(self) -> Image:
        """Return the files of a backup made now."""
        return self.disk.cut(len(self.disk.steps), Kept.ALL, Random(0))  # noqa: S311 - no secret

    async def restore(self, backup: Image) -> None:
        """Restart from a backup, in a new epoch."""
        await self.stop()
        copy = self._folder / "backup"
        shutil.rmtree(copy, ignore_errors=True)
        lay_out(backup, copy)
        connection = apsw.Connection(str(copy / "gateway.sqlite"))
        connection.execute("DELETE FROM meta WHERE key = 'log'")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'epoch'", (new_ulids()(),))
        connection.close()
        await self.start({file.name: file.read_bytes() for file in copy.iterdir()})

    async def deliver(self, cloud: Cloud, *, reply_lost: bool) -> None:
        """Deliver all waiting events to the cloud; ``reply_lost``: it stores the first batch but its reply is lost."""
        while self.alerts.may_deliver():
            deliveries = await self.outbox.deliveries(CLOUD, 500)
            for delivery in deliveries:
                cloud.receive(delivery.body)
            if reply_lost or not deliveries:
                return
            await self.outbox.settle(CLOUD, [(delivery, Delivered()) for delivery in deliveries])

    async def poll(self, cloud: Cloud) -> None:
        if self.alerts.may_deliver():
            await self.store.write(lambda transaction: self.alerts.add_proposals(transaction, cloud.items, CLOUD))


class Link:
    """Session between the two sides, which encodes and decodes every message."""

    def __init__(self, site: Site, gateway: GatewaySide) -> None:
        self._site = site
        self._gateway = gateway
        self._left = 0
        self._committed: list[Committed] = []
        self.up = False

    async def connect(self, messages: int, *, receipts_lost: bool = False) -> None:
        """Open a session that is cut after ``messages`` messages of Home Assistant."""
        self.cut()
        gateway = self._gateway
        cursor, summaries = await gateway.alerts.cursor_and_summaries()
        gateway.sent.clear()
        gateway.alerts.session_opened(gateway.sent.append)
        hello = GatewayHello(
            schema=1,
            min_schema=1,
            version="0",
            site=gateway.store.site,
            epoch=gateway.store.epoch,
            cursor=cursor,
            summaries=summaries,
        )
        self._left, self.up = messages, True
        greeting = decode(codec.encode(hello), FROM_GATEWAY)
        assert isinstance(greeting, session_messages.GatewayHello)
        try:
            await self._site.alerts.gateway_sync.async_session_opened(greeting, self._receive)
        except GatewayAwayError:
            self.cut()
        if not receipts_lost:
            await self.deliver_messages()

    def cut(self) -> None:
        """Cut the session; undelivered messages are lost."""
        if self.up:
            self.up = False
            self._committed.clear()
            self._gateway.alerts.session_closed(announced=False)
            self._site.alerts.gateway_sync.async_session_closed()

    async def deliver_messages(self) -> None:
        """Deliver all messages until neither side sends any more."""
        await self._site.settle()
        while self.up and (self._committed or self._gateway.sent):
            messages: list[Committed | Notified | Propose] = [*self._committed, *self._gateway.sent]
            self._committed.clear()
            self._gateway.sent.clear()
            for message in messages:
                arrived = decode(codec.encode(message), FROM_GATEWAY)
                assert isinstance(
                    arrived, session_messages.Committed | alert_messages.Notified | alert_messages.Propose
                )
                if self.up:
                    await self._site.alerts.gateway_sync.async_receive(arrived)
                    await self._site.settle()

    async def signal_activity(self) -> None:
        """Signal to each side that the other one is available."""
        if self.up:
            self._gateway.alerts.heard_from_home_assistant()
            self._site.alerts.gateway_presence.async_mark_active()

    async def _receive(self, message: FromHomeAssistant) -> None:
        if not self.up or not self._left:
            self.cut()
            raise GatewayAwayError("gateway_away", "the link was cut")
        self._left -= 1
        alerts = self._gateway.alerts
        match codec.decode(encode(message), FROM_HOME_ASSISTANT):
            case Transition() as transition:
                await alerts.apply(transition)
                self._committed.append(Committed(position=transition.position))
            case CaughtUp():
                await alerts.caught_up()
            case Result() as result:
                await alerts.settle(result)
