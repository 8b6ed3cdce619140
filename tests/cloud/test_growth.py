"""Events of a gateway that is newer than the endpoint."""

import orjson

from process_cosmos_cloud.batches import BatchReader
from process_cosmos_gateway.contract.events import event_type, site_source
from process_cosmos_gateway.contract.identifiers import Ulid

SITE = Ulid("01KAQ70000PC0SM0S000000000")


def test_events_of_an_unknown_type_and_with_unknown_members_are_stored_as_they_are() -> None:
    event = {
        "specversion": "1.0",
        "id": "01KAQ70000000000000000000E",
        "source": site_source(SITE),
        "type": event_type("alert", "of_the_future"),
        "subject": "01KAQ70000000000000000000A",
        "time": "2026-11-22T12:00:00Z",
        "mood": "good",
        "data": {"state": "of_the_future", "mood": "good"},
    }
    reader = BatchReader(orjson.dumps([event]), SITE)
    assert reader.read_some()
    [item] = reader.batch.items
    assert orjson.loads(item.text) == event
    assert not reader.batch.rejected
