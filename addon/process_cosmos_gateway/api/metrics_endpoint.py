"""Endpoint of the metrics: ``GET /metrics``."""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from process_cosmos_gateway.contract.destinations import Status
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Depths, Outbox
from process_cosmos_gateway.outbox.depths import Totals, read_totals
from process_cosmos_gateway.store import Store

from .local_programs.histogram import Durations
from .status import StatusReader


@dataclass(eq=False, repr=False)
class MetricsEndpoint:
    """Metrics endpoint. It reads counters, so that a scrape costs the same with a million events waiting."""

    store: Store
    outbox: Outbox
    status: StatusReader
    data: Path
    accept_seconds: Durations

    async def serve(self, _: web.Request) -> web.StreamResponse:
        """Reply with all metrics, or 503 if the store cannot be read."""
        try:
            depths = await self.outbox.depths()
            totals = await self.store.read(read_totals)
            status = await self.status.read()
        except StoreError:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=Code.STORE_FAILED)
        # In a thread, because the first scrape loads a library.
        body, content_type = await asyncio.to_thread(_render, depths, totals, status, self.accept_seconds, self.data)
        return web.Response(body=body, headers={"Content-Type": content_type})


def _render(depths: Depths, totals: Totals, status: Status, accept_seconds: Durations, data: Path) -> tuple[bytes, str]:
    from .metrics import render  # noqa: PLC0415 - Prometheus' client takes 1 MB, which gateways without scrapes save

    return render(depths, totals, status, accept_seconds, data)
