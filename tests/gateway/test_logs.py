"""Logs: one line an entry, without secrets."""

import logging

import pytest

from process_cosmos_gateway.logs import ENTRIES_A_MINUTE, LONGEST, OneLine, Rate, redact


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
def test_what_looks_like_a_secret_is_taken_out(text: str) -> None:
    assert "canary" in text
    assert "canary" not in redact(text)


def test_what_is_no_secret_stays() -> None:
    text = "Listening on 0.0.0.0 port 8735 (TLS); webhook https://hooks.example: 3 tokens wait"
    assert redact(text) == text


def test_an_entry_with_its_trace_is_one_line() -> None:
    with pytest.raises(ValueError, match="second") as failed:
        int("token=canary\nsecond")
    trace = (failed.type, failed.value, failed.tb)
    record = logging.LogRecord("here", logging.ERROR, __file__, 1, "it\r\nfailed", None, trace)
    line = OneLine().format(record)
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
def test_a_long_text_costs_no_more_than_its_beginning(text: str) -> None:
    assert len(redact(text)) < LONGEST + 100  # what takes time by the square of the length would not return in a day


def test_a_secret_that_a_cut_parts_is_not_shown() -> None:
    before = "x " * ((LONGEST - 20) // 2)
    shown = redact(f"{before}mqtt://user:{'hunter2' * 1000}@broker")
    assert "hunter2" not in shown
    assert shown.endswith("more characters)")


def test_one_cause_fills_no_disk_and_others_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("flood")
    handler = logging.Handler()
    written: list[str] = []
    handler.emit = lambda record: written.append(record.getMessage())  # type: ignore[method-assign] # a stand-in for a file
    handler.addFilter(Rate())
    log.addHandler(handler)
    try:
        with caplog.at_level(logging.INFO):
            for number in range(1000):
                log.warning("garbage %d", number)
            log.warning("something else")
    finally:
        log.removeHandler(handler)
    assert written == [*(f"garbage {number}" for number in range(ENTRIES_A_MINUTE)), "something else"]


def test_after_a_flood_the_next_entry_says_what_was_left_out() -> None:
    rate = Rate()

    def entry(created: float) -> logging.LogRecord:
        made = logging.LogRecord("a", logging.WARNING, "a.py", 7, "garbage %d", (1,), None)
        made.created = created
        return made

    assert sum(rate.filter(entry(number / 100)) for number in range(1000)) == ENTRIES_A_MINUTE
    later = entry(61.0)
    assert rate.filter(later)
    assert later.getMessage() == f"garbage 1 ({1000 - ENTRIES_A_MINUTE} more like this were left out)"
    assert rate.filter(entry(-3600.0)), "a clock that was set back silences nobody"
