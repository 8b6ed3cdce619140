"""The status: whose facts it shows, and what makes it news."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from process_cosmos_gateway.api.status import StatusReader, without_ages
from process_cosmos_gateway.contract.codec import encode
from process_cosmos_gateway.contract.errors import Code
from process_cosmos_gateway.outbox import Outbox
from tests.gateway.store.parts import HandClock, opened


async def test_what_devices_said_in_vain_is_counted_in_the_status_and_is_no_news_by_itself(tmp_path: Path) -> None:
    counts: Counter[str] = Counter({"garbage": 2, "clock_skewed": 0, Code.TOPIC_TAKEN: 1})
    devices: Any = SimpleNamespace(counts=counts, broker_connected=True)
    destinations: Any = SimpleNamespace(links=tuple)
    async with opened(tmp_path) as store:
        reader = StatusReader(cast("Any", devices), cast("Any", destinations), Outbox(store, HandClock()))
        before = await reader.read()
        counts["garbage"] += 1
        after = await reader.read()
    assert (before.passed_over, after.passed_over) == (
        {"garbage": 2, "topic_taken": 1},
        {"garbage": 3, "topic_taken": 1},
    )
    assert b'"topic_taken":1' in encode(after)
    assert without_ages(before) == without_ages(after)
    assert without_ages(before) != without_ages(replace(after, rejected=1))
