"""Contents and authorization of ``/metrics``."""

from prometheus_client.parser import text_string_to_metric_families

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.outbox import Delivered, DropReason
from process_cosmos_gateway.store import Transaction

from .endpoints import Endpoints, publish


async def scraped(endpoints: Endpoints) -> dict[tuple[str, str], float]:
    """Return all samples by name and label value."""
    async with endpoints.http.get(f"{endpoints.url}/metrics", headers=endpoints.bearer()) as reply:
        assert reply.status == 200
        families = text_string_to_metric_families(await reply.text())
        samples = [sample for family in families for sample in family.samples]
    return {
        (sample.name.removeprefix("process_cosmos_"), "".join(sample.labels.values())): sample.value
        for sample in samples
    }


async def test_waiting_and_delivered_events_are_counted(endpoints: Endpoints) -> None:
    producer = await endpoints.producer()
    await producer.codes(publish(1, urgent=True), publish(2), publish(3), publish(3, data="other"))
    deliveries = await endpoints.outbox.deliveries("cloud", 2)
    await endpoints.outbox.settle("cloud", [(delivery, Delivered()) for delivery in deliveries])
    samples = await scraped(endpoints)
    assert [samples["waiting_events", priority] for priority in ("urgent", "change", "reading")] == [0, 1, 0]
    assert [samples["queued_events_total", priority] for priority in ("urgent", "change")] == [1, 2]
    assert samples["delivered_events_total", "cloud"] == 2
    assert samples["id_conflicts_total", ""] == 1
    assert samples["alarm_accept_seconds_count", ""] == 1
    assert samples["oldest_waiting_seconds", ""] >= 0
    assert samples["waiting_bytes", "change"] > 200
    assert samples["queue_full", "urgent"] == 0


async def test_dropped_events_are_counted_by_priority_and_reason(endpoints: Endpoints) -> None:
    def drop(transaction: Transaction) -> None:
        endpoints.outbox.count_drop(transaction, Priority.READING, DropReason.VOLUME, 7)

    await endpoints.store.write(drop)
    assert (await scraped(endpoints))["dropped_events_total", "readingvolume"] == 7


async def test_process_and_disk_usage_is_shown(endpoints: Endpoints) -> None:
    samples = await scraped(endpoints)
    assert samples["store_bytes", "gateway.sqlite"] > 0
    assert samples["process_resident_memory_bytes", ""] > 10_000_000
    assert samples["process_cpu_seconds_total", ""] > 0
    assert ("written_bytes_total", "") in samples
    assert [samples["storage_state", state] for state in ("ok", "full", "read_only", "failing")] == [1, 0, 0, 0]
    assert (samples["broker_dropped_messages_total", ""], samples["gaps_total", ""]) == (0, 0)
    assert ("oldest_waiting_seconds", "") not in samples  # nothing waits


async def test_a_store_that_cannot_be_read_is_reported(endpoints: Endpoints) -> None:
    await endpoints.break_store()
    async with endpoints.http.get(f"{endpoints.url}/metrics", headers=endpoints.bearer()) as reply:
        assert (reply.status, await reply.text()) == (503, "store_failed")


async def test_without_a_token_nothing_is_shown(endpoints: Endpoints) -> None:
    async with endpoints.http.get(f"{endpoints.url}/metrics") as reply:
        assert reply.status == 401
        assert "process_cosmos" not in (await reply.text())
