"""Decisions as pure functions: statuses, backoff and link states."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from process_cosmos_gateway.contract.destinations import LinkState
from process_cosmos_gateway.destinations.backoff import CAP_SECONDS, LONGEST_RETRY_AFTER, REFUSED_SECONDS, next_delay
from process_cosmos_gateway.destinations.destination import Down, Refused, Trouble
from process_cosmos_gateway.destinations.http_request import Reply
from process_cosmos_gateway.destinations.http_statuses import Meaning, meaning
from process_cosmos_gateway.destinations.link import LinkHealth, combine_health

STATUSES = {
    Meaning.DELIVERED: (200, 201, 202, 204, 409),
    Meaning.REJECTED: (400, 413, 415, 422),
    Meaning.REFUSED: (301, 302, 307, 401, 403, 404, 405, 410, 418, 451),
    Meaning.RETRY: (408, 425, 429, 500, 502, 503, 504, 599),
}
CASES = [(status, expected) for expected, statuses in STATUSES.items() for status in statuses]
unit = st.floats(0, 1)


@pytest.mark.parametrize(("status", "expected"), CASES)
def test_a_status_about_one_event_means_what_the_table_says(status: int, expected: Meaning) -> None:
    assert meaning(status, own=True, single=True, proven=True) is expected


@pytest.mark.parametrize("status", [400, 409, 413, 415, 422])
def test_a_status_about_an_event_of_a_batch_asks_for_smaller_batches(status: int) -> None:
    assert meaning(status, own=True, single=False, proven=True) is Meaning.SPLIT


@pytest.mark.parametrize("single", [True, False])
def test_a_400_before_any_delivery_means_a_wrong_address(single: bool) -> None:  # noqa: FBT001 - a case
    assert meaning(400, own=True, single=single, proven=False) is Meaning.REFUSED


@given(st.integers(200, 599), st.booleans(), st.booleans())
def test_what_may_be_a_page_never_confirms_and_never_rejects(status: int, single: bool, proven: bool) -> None:  # noqa: FBT001
    found = meaning(status, own=False, single=single, proven=proven)
    assert found in (Meaning.REFUSED, Meaning.RETRY) or status in (202, 204, 205)


@pytest.mark.parametrize(
    ("reply", "trouble"),
    [
        (Reply(status=503, body=b"", retry_after=7.0), Down(reason="http_503", retry_after=7.0)),
        (Reply(status=429, body=b""), Down(reason="http_429")),
        (Reply(status=502, body=b"<html>"), Down(reason="http_502", event_suspected=True, detail="<html>")),
        (Reply(status=200, body=b"<p>"), Refused(reason="not_a_receiver", event_suspected=True, detail="<p>")),
        (Reply(status=422, body=b"<p>"), Refused(reason="not_a_receiver", event_suspected=True, detail="<p>")),
        (Reply(status=302, body=b""), Refused(reason="redirect", event_suspected=True)),
        (Reply(status=401, body=b"<p>"), Refused(reason="http_401", event_suspected=True, detail="<p>")),
        (Reply(status=400, body=b""), Refused(reason="http_400", event_suspected=True)),
    ],
)
def test_a_failure_has_a_stable_code(reply: Reply, trouble: Trouble) -> None:
    assert reply.trouble == trouble


@given(st.integers(1, 10_000), unit)
def test_a_wait_is_never_longer_than_the_cap_nor_shorter_than_half_a_second(failures: int, jitter: float) -> None:
    assert 0.5 <= next_delay(failures, jitter) <= CAP_SECONDS


@given(st.integers(1, 100), unit)
def test_waits_grow(failures: int, jitter: float) -> None:
    assert next_delay(failures, jitter) <= next_delay(failures + 1, jitter)


def test_jitter_spreads_the_waits_of_many_sites() -> None:
    assert next_delay(9, 0.0) == CAP_SECONDS / 2
    assert next_delay(9, 1.0) == CAP_SECONDS


@given(st.floats(0, 1e9))
def test_retry_after_is_honoured_up_to_a_quarter_of_an_hour(seconds: float) -> None:
    assert next_delay(1, 1.0, seconds) == max(1.0, min(seconds, LONGEST_RETRY_AFTER))


def test_a_link_is_connected_only_after_proof_of_work() -> None:
    fresh = LinkHealth()
    assert (fresh.state, fresh.reason, fresh.retry_delay(1.0)) == (LinkState.OFFLINE, "untried", 0.0)

    failed = fresh.failed(Down(reason="timeout")).failed(Down(reason="unreachable"))
    assert (failed.state, failed.reason, failed.retry_delay(1.0)) == (LinkState.OFFLINE, "unreachable", 2.0)

    worked = failed.succeeded(5.0)
    assert (worked.state, worked.reason, worked.last_contact) == (LinkState.CONNECTED, None, 5.0)
    assert worked.retry_delay(1.0) == 0.0


def test_proof_of_work_resets_the_backoff_and_keeps_nothing_of_the_failures() -> None:
    backoff = LinkHealth()
    for _ in range(9):
        backoff = backoff.failed(Down(reason="timeout"))
    assert backoff.succeeded(1.0).failed(Down(reason="timeout")).retry_delay(1.0) == 1.0


def test_a_refused_link_is_tried_every_quarter_of_an_hour() -> None:
    assert LinkHealth().failed(Refused(reason="http_404")).retry_delay(0.3) == REFUSED_SECONDS


def test_the_link_shows_the_worse_health_and_ignores_an_untried_one() -> None:
    untried, well = LinkHealth(), LinkHealth().succeeded(3.0)
    away = LinkHealth().succeeded(9.0).failed(Down(reason="timeout"))
    refused = LinkHealth().failed(Refused(reason="not_a_receiver"))

    assert combine_health(untried, well).state is LinkState.CONNECTED
    assert combine_health(well, away).reason == "timeout"
    assert combine_health(well, away).last_contact == 9.0
    assert combine_health(refused, away).reason == "not_a_receiver"
    assert combine_health(untried, untried).reason == "untried"
    assert combine_health(untried, untried).last_contact is None
