"""Logging: one line for each entry, without secrets."""

import logging
import time
from io import StringIO

import pytest

from process_cosmos_gateway import logs
from process_cosmos_gateway.destinations.delivery_state import log_health_change
from process_cosmos_gateway.destinations.destination import Down
from process_cosmos_gateway.destinations.link import LinkHealth
from process_cosmos_gateway.logs import DESTINATION, ENTRIES_A_MINUTE, LONGEST, OneLineFormatter, RateLimit, redact


@pytest.mark.parametrize(
    "text",
    [
        "posting to https://hooks.example/a/canary?key=canary failed",
        "line https://gateway.local:8735#canary.00ff",
        "posting to https://someone:canary@hooks.example/a failed",
        "mqtt://canary@broker:1883 is away",
        "Authorization: Bearer canary",
        "{'mqtt_password': 'canary'}",
        '{"token": "canary"}',
        "mqtt_password=canary",
        "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----",
        "-----BEGIN EC PRIVATE KEY-----\ncanary",
    ],
)
def test_apparent_secrets_are_masked(text: str) -> None:
    assert "canary" in text
    assert "canary" not in redact(text)


def test_other_text_is_not_masked() -> None:
    text = "Listening on 0.0.0.0 port 8735 (TLS); webhook https://hooks.example: 3 tokens wait"
    assert redact(text) == text


def test_an_entry_with_its_trace_is_one_line() -> None:
    with pytest.raises(ValueError, match="second") as failed:
        int("token=canary\nsecond")
    trace = (failed.type, failed.value, failed.tb)
    record = logging.LogRecord("here", logging.ERROR, __file__, 1, "it\r\nfailed", None, trace)
    line = OneLineFormatter().format(record)
    assert len(line.splitlines()) == 1
    assert "ERROR here: it\\r\\nfailed\\nTraceback" in line
    assert "canary" not in line


@pytest.mark.parametrize(
    "text",
    [
        "x" * 4_000_000,
        "a://" * 1_000_000,
        "password" * 500_000,
        "password " + " " * 4_000_000,
        "-----BEGIN PRIVATE KEY-----" * 100_000,
    ],
    ids=lambda text: text[:12],
)
def test_a_long_text_is_cut_before_it_is_searched(text: str) -> None:
    assert len(redact(text)) < LONGEST + 100  # what takes time by the square of the length would not return in a day


def test_a_secret_cut_at_the_end_is_not_shown() -> None:
    before = "x " * ((LONGEST - 20) // 2)
    shown = redact(f"{before}mqtt://user:{'hunter2' * 1000}@broker")
    assert "hunter2" not in shown
    assert shown.endswith("more characters)")


def deep(frames: int, message: str) -> str:
    """Return the line of an entry with a trace of so many frames that ends with the error's ``message``."""
    trace = "".join(f'  File "part.py", line {number}, in step\n    await step()\n' for number in range(frames))
    record = logging.LogRecord("here", logging.ERROR, __file__, 1, "it failed", None, (None, None, None))
    record.exc_text = f"Traceback (most recent call last):\n{trace}ValueError: {message}"
    return OneLineFormatter().format(record)


@pytest.mark.parametrize("frames", [10, 100, 10_000])
def test_a_long_trace_keeps_the_error_it_ends_with(frames: int) -> None:
    line = deep(frames, "the reason")
    assert "ERROR here: it failed\\nTraceback" in line
    assert line.endswith("ValueError: the reason")
    assert len(line.replace("\\n", "\n")) < LONGEST + 100


@pytest.mark.parametrize(
    "secret",
    [
        f"token={'canary' * 1000}",
        f"https://hooks.example/{'canary' * 1000}",
        f"-----BEGIN RSA PRIVATE KEY-----\n{'canary\n' * 1000}-----END RSA PRIVATE KEY-----",
    ],
    ids=["token", "address", "key"],
)
def test_a_secret_cut_at_the_start_of_a_trace_end_is_not_shown(secret: str) -> None:
    line = deep(100, f"{secret} was the reason")
    assert "canary" not in line
    assert line.endswith("was the reason")


def test_a_flood_from_one_call_site_is_limited_and_others_are_written(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("flood")
    handler = logging.Handler()
    written: list[str] = []
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign] # a stand-in for a file
    handler.addFilter(RateLimit())
    log.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO):
            for number in range(1000):
                log.warning("garbage %d", number)
            log.warning("something else")
    finally:
        log.removeHandler(handler)
    assert written == [*(f"garbage {number}" for number in range(ENTRIES_A_MINUTE)), "something else"]


def test_after_a_flood_the_next_entry_reports_the_suppressed_ones() -> None:
    rate = RateLimit()

    def entry(created: float) -> logging.LogRecord:
        made = logging.LogRecord("a", logging.WARNING, "a.py", 7, "garbage %d", (1,), None)
        made.created = created
        return made

    assert sum(rate.filter(entry(number / 100)) for number in range(1000)) == ENTRIES_A_MINUTE
    later = entry(61.0)
    assert rate.filter(later)
    assert later.getMessage() == f"garbage 1 ({1000 - ENTRIES_A_MINUTE} similar entries were suppressed)"
    assert rate.filter(entry(-3600.0)), "a clock that was set back suppresses no entries"


def link_state(name: str, state: str, created: float) -> logging.LogRecord:
    """Return an entry like those of ``destinations/delivery_state.py``."""
    made = logging.LogRecord("a", logging.INFO, "a.py", 7, "%s: %s", (name, state), None)
    made.created = created
    setattr(made, DESTINATION, name)
    return made


def test_an_unstable_destination_does_not_suppress_entries_of_others(caplog: pytest.LogCaptureFixture) -> None:
    there, away = LinkHealth().succeeded(0.0), LinkHealth().failed(Down(reason="timeout"))
    caplog.handler.addFilter(rate := RateLimit())
    with caplog.at_level(logging.INFO):
        for _ in range(30):
            log_health_change("hook", "sending", there, away)
        log_health_change("cloud", "sending", away, there)
    caplog.handler.removeFilter(rate)
    written = [record.getMessage() for record in caplog.records]
    assert written == [*["hook, sending: offline: timeout"] * ENTRIES_A_MINUTE, "cloud, sending: connected"]


def test_many_destination_names_do_not_exceed_the_limit_of_call_sites() -> None:
    rate = RateLimit()
    written = sum(rate.filter(link_state(str(number), "offline", number / 1e6)) for number in range(100_000))
    assert written < 1_100


def test_the_last_suppressed_entry_is_written_after_its_minute_and_counts_in_the_next() -> None:
    rate = RateLimit()
    for number in range(30):
        rate.filter(link_state("hook", f"state {number}", number))
    assert (rate.overdue(59.0), rate.has_suppressed) == ([], True)
    [last] = rate.overdue(60.0)
    assert (last.getMessage(), last.created) == ("hook: state 29 (19 similar entries were suppressed)", 29.0)
    assert (rate.overdue(120.0), rate.has_suppressed) == ([], False)
    assert sum(rate.filter(link_state("hook", "offline", 61.0)) for _ in range(30)) == ENTRIES_A_MINUTE - 1


def test_a_single_suppressed_entry_is_written_unchanged() -> None:
    rate = RateLimit()
    for number in range(ENTRIES_A_MINUTE + 1):
        rate.filter(link_state("hook", f"state {number}", number))
    [last] = rate.overdue(60.0)
    assert last.getMessage() == f"hook: state {ENTRIES_A_MINUTE}"


@pytest.mark.parametrize("end", ["minute", "close"])
def test_the_latest_state_is_written_after_a_minute_or_at_the_end(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(logs, "_MINUTE", 1.0 if end == "minute" else 60.0)
    handler, log, written = logs.RateLimitedHandler(RateLimit()), logging.getLogger("states"), StringIO()
    handler.setStream(written)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        for number in range(20):
            log.info("state %d\n%s", number, "x " * 50_000, extra={DESTINATION: "hook"})
        assert len(written.getvalue().splitlines()) == ENTRIES_A_MINUTE
        deadline = time.monotonic() + 20
        while end == "minute" and "state 19" not in written.getvalue() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        log.removeHandler(handler)
        handler.close()
    *_, last = written.getvalue().splitlines()
    assert "states: state 19\\nx x" in last
    assert len(last) < LONGEST + 200
    assert len(written.getvalue().splitlines()) == ENTRIES_A_MINUTE + 1
