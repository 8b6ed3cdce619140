"""Which events go side by side."""

from process_cosmos_gateway.contract.destinations import Priority
from process_cosmos_gateway.destinations.failure_cause import Room
from process_cosmos_gateway.destinations.parallel_sender import fitting
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


def test_side_by_side_goes_the_first_of_each_key_and_no_pack_of_readings_behind_what_waits() -> None:
    leak, lift = delivery(Priority.URGENT, "leak", 1), delivery(Priority.URGENT, "lift", 2)
    worker, pack = delivery(Priority.CHANGE, "pump", 1), delivery(Priority.READING, "", 1)
    free = Room(any=8, alarms=8)
    assert list(fitting(free, [leak, lift, worker, pack])) == [leak, lift, worker, pack]

    second = delivery(Priority.URGENT, "leak", 3)
    assert list(fitting(free, [leak, second, lift, worker, pack])) == [leak, lift, worker]
    # The same key in another priority is another order.
    change = delivery(Priority.CHANGE, "leak", 4)
    assert list(fitting(free, [leak, change, pack])) == [leak, change, pack]


def test_where_late_replies_leave_no_room_alarms_still_go() -> None:
    leak, worker = delivery(Priority.URGENT, "leak", 1), delivery(Priority.CHANGE, "pump", 1)
    assert list(fitting(Room(any=0, alarms=1), [leak, worker])) == [leak]
    assert list(fitting(Room(any=1, alarms=1), [leak, worker])) == [leak]
    assert list(fitting(Room(any=2, alarms=2), [leak, worker])) == [leak, worker]
