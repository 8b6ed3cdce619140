"""Logs: one line an entry, without secrets."""

import logging

import pytest

from process_cosmos_gateway.logs import OneLine, redact


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
