"""Fake status and outbox for tests of the status page."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from process_cosmos_gateway.api.ingress.page import About, StatusPage
from process_cosmos_gateway.contract.destinations import DestinationKind, Link, LinkState, Priority, Status, Waiting
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.options import BrokerOptions
from process_cosmos_gateway.outbox import Depths

from .services import SITE
from .test_change_feed import HandClock

WELL = Status(links=(), waiting=Waiting(), rejected=0, dropped=0, broker_connected=True)
CLOUD = Link(
    name="Cloud",
    kind=DestinationKind.CLOUD,
    address="https://cloud.example",
    kinds=(),
    state=LinkState.CONNECTED,
    state_age=3.0,
    last_contact_age=3.0,
)


@dataclass
class FakeStatus:
    """Fake of the status reader and the outbox; ``broken``: the store cannot be read."""

    status: Status = WELL
    ages: dict[Priority, float] = field(default_factory=dict)
    broken: bool = False

    async def read(self) -> Status:
        if self.broken:
            raise StoreError
        return self.status

    async def depths(self) -> Depths:
        return Depths(
            waiting=self.status.waiting,
            ages=self.ages,
            rejected=0,
            conflicts=0,
            forgotten=0,
            bytes={},
            drops={},
            full=frozenset(),
        )


def page_of(status: FakeStatus, folder: Path, port: int, broker: BrokerOptions | None, peer: str) -> StatusPage:
    about = About(site=SITE, version="9.8.7", url=f"http://127.0.0.1:{port}", data=folder, broker=broker)
    return StatusPage(about, cast("Any", status), cast("Any", status), HandClock(), peer=peer)
