"""Replies of a cloud endpoint that is newer than the gateway."""

import hashlib
from dataclasses import replace

import orjson
import pytest

from process_cosmos_gateway.contract.cloud import BatchReceipt
from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.destinations.batch_receipts import parse_receipt
from process_cosmos_gateway.destinations.inbox import parse_inbox_page
from tests.wire.growth import GOLDEN, grown

BATCH = b"[]"


def test_a_receipt_with_unknown_members_confirms_its_batch() -> None:
    unknown: list[str] = []
    count = 1 + max(parse(BatchReceipt, orjson.loads(GOLDEN["batch_receipt"])).duplicates)
    document = {**grown("batch_receipt").document, "batch": hashlib.sha256(BATCH).hexdigest()}
    receipt = parse_receipt(orjson.dumps(document), BATCH, count + 9, lambda path, _reason: unknown.append(path))
    assert receipt.rejected.keys() == {item["index"] for item in document["rejected"]}
    assert "$.mood" in unknown


def test_answers_with_unknown_members_count() -> None:
    unknown: list[str] = []
    page = parse_inbox_page(
        "cloud", orjson.dumps(grown("inbox_page").document), 0, lambda path, _reason: unknown.append(path)
    )
    old = parse_inbox_page("cloud", GOLDEN["inbox_page"], 0, lambda _path, _reason: None)
    assert page == old
    assert page.items
    assert set(unknown) == {"inbox.mood"}


def test_an_item_of_an_unknown_kind_is_skipped_by_name_and_is_no_acknowledgement(
    caplog: pytest.LogCaptureFixture,
) -> None:
    document = orjson.loads(GOLDEN["inbox_page"])
    known = len(document["items"])
    last = document["items"][-1]
    bare = {key: value for key, value in last.items() if key not in ("answer", "acknowledge_for")}
    document["items"] += [{**bare, "id": "new", "cursor": last["cursor"] + 1, "wake_everybody": True}]
    document["newest"] = last["cursor"] + 1
    page = parse_inbox_page("cloud", orjson.dumps(document), 0, lambda _path, _reason: None)
    assert len(page.items) == known
    assert page.cursor == last["cursor"] + 1
    assert "unsupported: an inbox item cannot be used and was skipped: inbox.wake_everybody" in caplog.text
    known_kind = orjson.dumps({**document, "items": [{**bare, "id": "old"}]})
    [item] = parse_inbox_page("cloud", known_kind, 0, lambda _path, _reason: None).items
    assert item == replace(item, answer=None, acknowledge_for=None)
