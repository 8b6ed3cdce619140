"""The gateway's status, as Home Assistant shows it."""

from dataclasses import replace

from process_cosmos_gateway.contract.destinations import Status
from process_cosmos_gateway.destinations import Destinations
from process_cosmos_gateway.devices import Devices
from process_cosmos_gateway.outbox import Outbox

AGES_EVERY = 300
"""Seconds after which a status is news although only ages in it changed: each one is a row in the history."""


class StatusReader:
    """Gathers the status from the parts that own its facts."""

    def __init__(self, devices: Devices, destinations: Destinations, outbox: Outbox) -> None:
        """Take the owners."""
        self._devices = devices
        self._destinations = destinations
        self._outbox = outbox

    async def read(self) -> Status:
        """Return the status as it is; raise ``StoreError``."""
        depths = await self._outbox.depths()
        return Status(
            links=self._destinations.links(),
            waiting=depths.waiting,
            rejected=depths.rejected,
            dropped=depths.dropped,
            oldest_waiting_age=depths.oldest,
            broker_connected=self._devices.broker_connected,
            passed_over={str(reason): count for reason, count in (+self._devices.counts).items()},
        )


def without_ages(status: Status) -> Status:
    """Return what makes a status news: all but what time alone changes, and counts that are there to be looked up."""
    links = tuple(replace(link, last_contact_age=None) for link in status.links)
    return replace(status, links=links, oldest_waiting_age=None, passed_over={})
