"""Metrics of queues, deliveries, links, storage and the process in Prometheus' text format, loaded by a scrape."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from process_cosmos_gateway.contract.destinations import LinkState, Status, StorageState
from process_cosmos_gateway.outbox import Depths
from process_cosmos_gateway.outbox.depths import Totals

from .local_programs.histogram import Durations

type Values = Mapping[Any, float | None]

_PREFIX = "process_cosmos_"


def render(depths: Depths, totals: Totals, status: Status, accept_seconds: Durations, data: Path) -> tuple[bytes, str]:
    """Return all metrics and their content type; ``data``: the folder of the store's files."""
    registry = CollectorRegistry()
    urgent = _histogram(
        "alarm_accept_seconds",
        "Seconds from the arrival of a program's urgent event until it is stored.",
        accept_seconds,
    )
    registry.register(_Families((*_of_outbox(depths, totals), *_of_status(status), *_of_disk(data), urgent)))
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Families(Collector):
    """Collector of metrics read beforehand, as ``collect`` cannot await."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_outbox(depths: Depths, totals: Totals) -> Iterable[Metric]:
    queued, delivered = totals
    waiting: dict[str, float] = {priority: getattr(depths.waiting, priority) for priority in queued}
    yield _gauge("waiting_events", "Events accepted and not yet confirmed by every destination.", waiting, "priority")
    yield _gauge("oldest_waiting_seconds", "Seconds since the oldest waiting event was accepted.", {(): depths.oldest})
    yield _gauge("rejected_events", "Events permanently refused by a destination.", {(): depths.rejected})
    yield _counter("queued_events", "Events queued since the store was created.", queued, "priority")
    yield _counter("delivered_events", "Events confirmed since the store was created.", delivered, "destination")
    yield _gauge(
        "waiting_bytes", "Bytes waiting for the destination with the largest backlog.", depths.bytes, "priority"
    )
    full = {priority: priority in depths.full for priority in queued}
    yield _gauge("queue_full", "1 if a destination's share of the outbox is full.", full, "priority")
    yield _counter(
        "dropped_events", "Events accepted and dropped since the store was created.", depths.drops, "priority", "reason"
    )
    yield _counter(
        "id_conflicts", "Events refused because their id is known with other content.", {(): depths.conflicts}
    )
    yield _counter("forgotten_ids", "Event ids forgotten because the limit was reached.", {(): depths.forgotten})


def _of_status(status: Status) -> Iterable[Metric]:
    connected = {link.name: link.state is LinkState.CONNECTED for link in status.links}
    yield _gauge("link_connected", "1 if the destination accepts events.", connected, "destination")
    storage = {str(state): state is status.storage for state in StorageState}
    yield _gauge("storage_state", "1 for the current state of the store's disk.", storage, "state")
    yield _counter("broker_dropped_messages", "Messages the broker reports as dropped.", {(): status.broker_dropped})
    yield _counter("gaps", "Number of times the broker had lost the gateway's session.", {(): status.gaps})


def _of_disk(data: Path) -> Iterable[Metric]:
    sizes = {path.name: path.stat().st_size for path in sorted(data.glob("gateway.sqlite*")) if path.is_file()}
    yield _gauge("store_bytes", "Size of the store's files.", sizes, "file")
    written = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    yield _counter("written_bytes", "Bytes written to the disk since the start.", {(): int(written["write_bytes"])})


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, text)
    buckets = [("+Inf" if math.isinf(bound) else str(bound), count) for bound, count in durations.cumulative()]
    family.add_metric([], buckets, durations.total)
    return family


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _filled(GaugeMetricFamily(_PREFIX + name, text, labels=labels), values)


def _counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _filled(CounterMetricFamily(_PREFIX + name, text, labels=labels), values)


def _filled[M: GaugeMetricFamily | CounterMetricFamily](family: M, values: Values) -> M:
    """Add one sample for each value except None; a key is the value of the only label, or a tuple of values."""
    for labels, value in values.items():
        if value is not None:
            family.add_metric([labels] if isinstance(labels, str) else labels, value)
    return family
