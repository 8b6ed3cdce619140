"""The selection of events that are sent in parallel."""

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.destinations.failure_cause import SendCapacity
from process_cosmos_gateway.destinations.parallel_sender import select_deliveries
from process_cosmos_gateway.outbox import Delivery

from .parts import event_id


def delivery(priority: Priority, key: str, sequence: int) -> Delivery:
    return Delivery(
        priority=priority,
        sequence=sequence,
        id=event_id(sequence),
        type="",
        subject=key,
        key=key,
        body=b"",
        attempts=0,
        replayed=False,
    )


def test_the_first_event_of_each_key_is_sent_and_no_reading_batch_behind_waiting_events() -> None:
    leak, lift = delivery(Priority.URGENT, "leak", 1), delivery(Priority.URGENT, "lift", 2)
    pump, batch = delivery(Priority.CHANGE, "pump", 1), delivery(Priority.READING, "", 1)
    free = SendCapacity(any=8, urgent=8)
    assert list(select_deliveries(free, [leak, lift, pump, batch])) == [leak, lift, pump, batch]

    second = delivery(Priority.URGENT, "leak", 3)
    assert list(select_deliveries(free, [leak, second, lift, pump, batch])) == [leak, lift, pump]
    # A key in another priority is ordered separately.
    change = delivery(Priority.CHANGE, "leak", 4)
    assert list(select_deliveries(free, [leak, change, batch])) == [leak, change, batch]


def test_urgent_events_are_sent_although_late_requests_use_the_capacity() -> None:
    leak, pump = delivery(Priority.URGENT, "leak", 1), delivery(Priority.CHANGE, "pump", 1)
    assert list(select_deliveries(SendCapacity(any=0, urgent=1), [leak, pump])) == [leak]
    assert list(select_deliveries(SendCapacity(any=1, urgent=1), [leak, pump])) == [leak]
    assert list(select_deliveries(SendCapacity(any=2, urgent=2), [leak, pump])) == [leak, pump]
