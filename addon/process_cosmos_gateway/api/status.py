"""Status of the gateway, as sent to Home Assistant."""

import asyncio
from dataclasses import dataclass, replace

from process_cosmos_gateway.contract.destinations import Drop, Priority, Recovered, Status
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.devices import Devices
from process_cosmos_gateway.outbox import Outbox
from process_cosmos_gateway.store import Store

AGES_EVERY = 300
"""Seconds after which a status is sent although only its ages changed; each one adds a row to the history."""


@dataclass(eq=False, repr=False)
class StatusReader:
    """Reader that assembles the status from devices, destinations, outbox and store."""

    devices: Devices
    destinations: Destinations
    outbox: Outbox
    store: Store
    changed: asyncio.Event

    async def read(self) -> Status:
        """Return the current status; raise ``StoreError``."""
        depths = await self.outbox.depths()
        links = self.destinations.links()
        health = self.store.health
        return Status(
            links=links,
            waiting=depths.waiting,
            rejected=depths.rejected,
            dropped=depths.dropped,
            oldest_waiting_age=depths.oldest,
            broker_connected=self.devices.broker_connected,
            passed_over={str(reason): count for reason, count in (+self.devices.counts).items()},
            drops=tuple(
                Drop(priority=priority, reason=reason, count=count)
                for (priority, reason), count in sorted(depths.drops.items())
            ),
            full=tuple(priority for priority in Priority if priority in depths.full),
            storage=health.state,
            storage_reason=health.reason,
            recovered=self._recovered(),
            broker_dropped=self.devices.broker_dropped,
            gaps=self.devices.gaps,
            identity_conflict=self.devices.identity_conflict
            or any(link.reason == Code.IDENTITY_CONFLICT for link in links),
            broker=self.devices.broker_link,
        )

    def _recovered(self) -> Recovered | None:
        found = self.store.recovered
        if found is None:
            return None
        return Recovered(
            kept=sum(found.kept.values()),
            lost=sum(found.lost.values()),
            at=found.at,
            lost_unknown=found.is_unknown,
        )


def without_ages(status: Status) -> Status:
    """Return the status without ages and ``passed_over``, whose changes alone do not cause a new message."""
    links = tuple(replace(link, last_contact_age=None, state_age=0.0) for link in status.links)
    return replace(status, links=links, oldest_waiting_age=None, passed_over={})
