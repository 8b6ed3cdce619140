"""Metrics of queues, deliveries, links, storage and the process in Prometheus' text format, loaded by a scrape."""

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from process_cosmos_gateway.contract.destinations import LinkState, Priority, Status, StorageState
from process_cosmos_gateway.outbox import Depths
from process_cosmos_gateway.outbox.depths import Totals

from .local_programs.durations import Durations

type Values = Mapping[str, float] | Mapping[str, float | None] | Mapping[Priority, int]

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
    yield _gauge("waiting_events", "Events accepted and not yet confirmed by every destination.", "priority", waiting)
    yield _gauge(
        "oldest_waiting_seconds", "Seconds since the oldest waiting event was accepted.", None, {"": depths.oldest}
    )
    yield _gauge("rejected_events", "Events permanently refused by a destination.", None, {"": depths.rejected})
    yield _counter("queued_events", "Events queued since the store was created.", "priority", queued)
    yield _counter("delivered_events", "Events confirmed since the store was created.", "destination", delivered)
    yield _gauge(
        "waiting_bytes", "Bytes waiting for the destination with the largest backlog.", "priority", depths.bytes
    )
    full = {priority: priority in depths.full for priority in queued}
    yield _gauge("queue_full", "1 if a destination's share of the outbox is full.", "priority", full)
    drops = CounterMetricFamily(
        _PREFIX + "dropped_events",
        "Events accepted and dropped since the store was created.",
        labels=["priority", "reason"],
    )
    for labels, count in depths.drops.items():
        drops.add_metric(labels, count)
    yield drops
    yield _counter(
        "id_conflicts", "Events refused because their id is known with other content.", None, {"": depths.conflicts}
    )
    yield _counter("forgotten_ids", "Event ids forgotten because the limit was reached.", None, {"": depths.forgotten})


def _of_status(status: Status) -> Iterable[Metric]:
    connected = {link.name: link.state is LinkState.CONNECTED for link in status.links}
    yield _gauge("link_connected", "1 if the destination accepts events.", "destination", connected)
    storage = {str(state): state is status.storage for state in StorageState}
    yield _gauge("storage_state", "1 for the current state of the store's disk.", "state", storage)
    yield _counter(
        "broker_dropped_messages", "Messages the broker reports as dropped.", None, {"": status.broker_dropped}
    )
    yield _counter("gaps", "Number of times the broker had lost the gateway's session.", None, {"": status.gaps})


def _of_disk(data: Path) -> Iterable[Metric]:
    sizes = {path.name: path.stat().st_size for path in sorted(data.glob("gateway.sqlite*")) if path.is_file()}
    yield _gauge("store_bytes", "Size of the store's files.", "file", sizes)
    written = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    yield _counter(
        "written_bytes", "Bytes written to the disk since the start.", None, {"": int(written["write_bytes"])}
    )


def _histogram(name: str, text: str, durations: Durations) -> Metric:
    family = HistogramMetricFamily(_PREFIX + name, text)
    buckets = [("+Inf" if math.isinf(bound) else str(bound), count) for bound, count in durations.cumulative()]
    family.add_metric([], buckets, durations.total)
    return family


def _gauge(name: str, text: str, label: str | None, values: Values) -> Metric:
    return _filled(GaugeMetricFamily(_PREFIX + name, text, labels=[label] if label else []), values)


def _counter(name: str, text: str, label: str | None, values: Values) -> Metric:
    return _filled(CounterMetricFamily(_PREFIX + name, text, labels=[label] if label else []), values)


def _filled[M: GaugeMetricFamily | CounterMetricFamily](family: M, values: Values) -> M:
    """Add one sample for each value except None; an empty name adds a sample without a label."""
    for name, value in values.items():
        if value is not None:
            family.add_metric([name] if name else [], value)
    return family
