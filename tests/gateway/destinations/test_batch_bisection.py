"""Bisection finds the event that makes a batch fail: few failures, order kept, urgent events not delayed."""

from hypothesis import given, settings
from hypothesis import strategies as st

from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.destinations.batch_bisection import BatchBisection
from process_cosmos_gateway.outbox import Delivery

from .parts import delivery

MOST = 1000


def is_in_order(deliveries: list[Delivery]) -> bool:
    keys = {each.key for each in deliveries}
    sequences = [[each.sequence for each in deliveries if each.key == key] for key in keys]
    return all(each == sorted(each) for each in sequences)


def search(waiting: list[Delivery], bad: Ulid, bisection: BatchBisection) -> tuple[int, list[Delivery], BatchBisection]:
    """Send until the bad event failed alone; return the number of failed batches, and the delivered events."""
    failures, arrived = 0, list[Delivery]()
    for _ in range(len(waiting) + 100):
        batch = bisection.choose(waiting[: bisection.fetch_limit])
        if bad not in {each.id for each in batch}:
            bisection = bisection.settled(batch)
            arrived += batch
            waiting = [each for each in waiting if each not in batch]
            continue
        failures += 1
        bisection = bisection.failed(batch)
        if len(batch) == 1:
            return failures, arrived, bisection
    raise AssertionError


THOUSAND = [delivery(sequence, key=str(sequence % 7)) for sequence in range(1, MOST + 1)]


@settings(deadline=None)
@given(st.integers(1, MOST), st.data())
def test_one_in_a_thousand_is_found_with_three_failures(number: int, data: st.DataObject) -> None:
    waiting = THOUSAND[:number]
    bad = waiting[data.draw(st.integers(0, number - 1))].id
    failures, arrived, _ = search(waiting, bad, BatchBisection.initial(MOST))
    assert failures <= 3
    assert is_in_order(arrived)
    assert len({each.id for each in arrived}) == len(arrived)


def test_batches_grow_after_the_event_was_found() -> None:
    waiting = [delivery(sequence) for sequence in range(1, 65)]
    _, _, bisection = search(waiting, waiting[0].id, BatchBisection.initial(MOST))
    sizes = []
    for _ in range(12):
        sizes.append(bisection.fetch_limit)
        bisection = bisection.settled([delivery(number) for number in range(1, bisection.fetch_limit + 1)])
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, MOST, MOST]


def test_a_new_urgent_event_is_sent_next_and_separately_but_never_before_its_key() -> None:
    suspects = [delivery(sequence) for sequence in range(1, 65)]
    bisection = BatchBisection.initial(MOST).failed(suspects)
    urgent, behind = delivery(99), delivery(100, key=suspects[3].key)
    assert bisection.choose([*suspects, urgent, behind]) == [urgent]
    bisection = bisection.settled([urgent])
    assert bisection.choose([*suspects, behind, delivery(101)]) == suspects[:2]


def test_a_failed_batch_is_never_repeated_at_the_same_size() -> None:
    suspects = [delivery(sequence) for sequence in range(1, 3)]
    assert len(BatchBisection.initial(MOST).failed(suspects).choose(suspects)) == 1
