"""The order of an outbox on the way, whatever fails."""

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.outbox.order import Candidate, rest, sendable

KEYS = st.sampled_from("abc")


@given(st.lists(st.tuples(KEYS, st.integers(0, 2), st.booleans())))
def test_nothing_passes_a_failed_event_of_its_key(events: list[tuple[str, int, bool]]) -> None:
    candidates = [Candidate(number, key, failures) for number, (key, failures, _) in enumerate(events)]
    resting = {number for number, (_, _, rests) in enumerate(events) if rests}
    sent = list(sendable(candidates, resting))
    assert sent == sorted(sent, key=lambda each: each.sequence)
    failed_before: defaultdict[str, bool] = defaultdict(bool)
    expected = []
    for candidate in candidates:
        if not failed_before[candidate.key] and not (candidate.failures and candidate.sequence in resting):
            expected.append(candidate)
        failed_before[candidate.key] |= candidate.failures > 0
    assert sent == expected


def test_rests_grow_to_their_limit() -> None:
    assert [rest(failures, 300) for failures in (1, 2, 3, 9, 10, 100)] == [1, 2, 4, 256, 300, 300]
