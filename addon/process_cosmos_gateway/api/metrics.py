"""``GET /metrics``: what the gateway holds, does and costs, in Prometheus' text format."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from process_cosmos_gateway.contract.destinations import LinkState, Priority, Status, StorageState
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.errors import StoreError
from process_cosmos_gateway.outbox import Depths, Outbox
from process_cosmos_gateway.outbox.totals import Totals, read_totals
from process_cosmos_gateway.store import Store

from .status import StatusReader

type Values = Mapping[str, float] | Mapping[str, float | None] | Mapping[Priority, int]

_PREFIX = "process_cosmos_"


class Metrics:
    """Gathers figures when asked, from counters: a scrape costs the same with a million events waiting."""

    def __init__(
        self, store: Store, outbox: Outbox, status: StatusReader, data: Path, histograms: Iterable[Histogram]
    ) -> None:
        """Take the owners; ``data``: the folder of the store's files."""
        self._store = store
        self._outbox = outbox
        self._status = status
        self._data = data
        self._collectors = (ProcessCollector(registry=None), *histograms)

    async def serve(self, _: web.Request) -> web.StreamResponse:
        """Reply with all metrics; 503 if the store cannot be read."""
        try:
            depths = await self._outbox.depths()
            found = await self._store.read(read_totals)
            status = await self._status.read()
        except StoreError:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text=Code.STORE_FAILED)
        families = (*_of_outbox(depths, found), *_of_status(status), *_of_disk(self._data))
        registry = CollectorRegistry()
        registry.register(_Families(families))
        for collector in self._collectors:
            registry.register(collector)
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _Families(Collector):
    """Metrics that were gathered before: collecting them must not wait."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_outbox(depths: Depths, found: Totals) -> Iterable[Metric]:
    waiting: dict[str, float] = {priority: getattr(depths.waiting, priority) for priority in found.queued}
    yield _gauge("waiting_events", "Accepted, not yet confirmed by every destination.", "priority", waiting)
    yield _gauge("oldest_waiting_seconds", "Since the oldest waiting event was accepted.", None, {"": depths.oldest})
    yield _gauge("rejected_events", "Refused for good by a destination.", None, {"": depths.rejected})
    yield _counter("queued_events", "Queued since the store was made.", "priority", found.queued)
    yield _counter("delivered_events", "Confirmed since the store was made.", "destination", found.delivered)
    yield _gauge("waiting_bytes", "Of the destination furthest behind.", "priority", depths.bytes)
    full = {priority: priority in depths.full for priority in found.queued}
    yield _gauge("queue_full", "1: a destination's share has no room left.", "priority", full)
    drops = CounterMetricFamily(
        _PREFIX + "dropped_events", "Accepted and not sent, since the store was made.", labels=["priority", "reason"]
    )
    for labels, count in depths.drops.items():
        drops.add_metric(labels, count)
    yield drops
    yield _counter("id_conflicts", "Ids that came again with other content.", None, {"": depths.conflicts})
    yield _counter("forgotten_ids", "Ids forgotten for want of room.", None, {"": depths.forgotten})


def _of_status(status: Status) -> Iterable[Metric]:
    connected = {link.name: link.state is LinkState.CONNECTED for link in status.links}
    yield _gauge("link_connected", "1: the destination takes events.", "destination", connected)
    storage = {str(state): state is status.storage for state in StorageState}
    yield _gauge("storage_state", "1: what the store's disk has last done.", "state", storage)
    yield _counter(
        "broker_dropped_messages", "Dropped by the broker, by its own count.", None, {"": status.broker_dropped}
    )
    yield _counter("gaps", "Times the broker had lost our session.", None, {"": status.gaps})


def _of_disk(data: Path) -> Iterable[Metric]:
    sizes = {path.name: path.stat().st_size for path in sorted(data.glob("gateway.sqlite*")) if path.is_file()}
    yield _gauge("store_bytes", "Size of the store's files.", "file", sizes)
    written = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    yield _counter("written_bytes", "Given to the disk since the start.", None, {"": int(written["write_bytes"])})


def _gauge(name: str, text: str, label: str | None, values: Values) -> Metric:
    return _filled(GaugeMetricFamily(_PREFIX + name, text, labels=[label] if label else []), values)


def _counter(name: str, text: str, label: str | None, values: Values) -> Metric:
    return _filled(CounterMetricFamily(_PREFIX + name, text, labels=[label] if label else []), values)


def _filled[M: GaugeMetricFamily | CounterMetricFamily](family: M, values: Values) -> M:
    """Add a sample a value; without a name it has no label, and None is no sample."""
    for name, value in values.items():
        if value is not None:
            family.add_metric([name] if name else [], value)
    return family
