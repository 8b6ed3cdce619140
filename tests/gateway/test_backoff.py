"""The exponential pause, with the figures of its callers."""

from process_cosmos_gateway.backoff import exponential_delay


def test_the_pause_doubles_up_to_its_limit() -> None:
    assert [exponential_delay(failures, 1, 300) for failures in (1, 2, 3, 9, 10, 100)] == [1, 2, 4, 256, 300, 300]
    assert [exponential_delay(attempts, 1, 60) for attempts in (1, 2, 3, 4, 20)] == [1, 2, 4, 8, 60]


def test_it_never_shrinks_in_an_outage_without_end() -> None:
    delays = [exponential_delay(failures, 0.1, 30) for failures in (*range(1, 30), 10**6)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (0.1, 30.0)


def test_jitter_spreads_it_over_the_upper_half() -> None:
    assert exponential_delay(29, 0.1, 30, 0.0) == 15.0
