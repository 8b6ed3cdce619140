"""Every figure of SECURITY.md's table is the code's own."""

from process_cosmos_cloud import batches, bodies, identity, readings, server
from process_cosmos_gateway import listener, logs
from process_cosmos_gateway.alerts import proposals
from process_cosmos_gateway.api import pairing
from process_cosmos_gateway.api import server as api
from process_cosmos_gateway.contract import bounds, local_programs
from process_cosmos_gateway.destinations import backoff, http_request, inbox
from process_cosmos_gateway.destinations.batch_receipts import is_token
from process_cosmos_gateway.devices import message_writer
from process_cosmos_gateway.devices.mqtt import packets
from process_cosmos_gateway.devices.readings import retention
from process_cosmos_gateway.devices.things import description, description_intake, device_table, rates, values
from tests.cloud.test_batch_bounds import MOST_BYTES
from tests.support.documents import TOP

CONNECTIONS = listener.ListenerLimits()


def kib(size: float) -> str:
    """Return bytes as KiB."""
    assert size % 1024 == 0
    return f"{size / 1024:.0f} KiB"


def mib(size: int) -> str:
    """Return bytes as MiB."""
    assert size % (1 << 20) == 0
    return f"{size >> 20} MiB"


def mb(size: int) -> str:
    """Return bytes as MB."""
    assert size % 1_000_000 == 0
    return f"{size // 1_000_000} MB"


FIGURES = {
    "Connections that are not authenticated yet, gateway and cloud endpoint": (
        f"{CONNECTIONS.unauthenticated} at a time, {CONNECTIONS.per_address} of one address"
        f" (IPv6: of one /{listener._IPV6_HOST_PREFIX})"
    ),
    "Duration of such a connection": (
        f"{CONNECTIONS.handshake:.0f} s for the TLS handshake, {CONNECTIONS.request:.0f} s in all"
    ),
    "Connections of one site, cloud endpoint; of Home Assistant, of the Supervisor, of one program's token, gateway": (
        f"{CONNECTIONS.per_peer}; {api._LIMITS.per_peer}"
    ),
    "File descriptors reserved for the process's own work": f"{CONNECTIONS.reserved}",
    "Compressed request bodies": "refused",
    "Chunks of a body, cloud endpoint": f"{bodies.CHUNK_SECONDS:.0f} s until the next one comes",
    "A batch, a request for a certificate": f"{mib(bodies.MAX_BODY)}, {kib(bodies.MAX_REQUEST)}",
    "Events of a batch": f"{batches.MOST_ITEMS:,}",
    "Commas and opening brackets, in texts too, of an event, or of a batch not joined by comma and line feed;"
    " commas of any batch": f"{batches.MOST_VALUES:,}; {batches.MOST_VALUES_IN_ALL:,}",
    "Rejected events listed in a receipt": f"{batches.MOST_REJECTED}; with more the batch is refused (422)",
    "Readings of a reading batch; of a batch of events": f"{readings.MOST_RECORDS:,}; {batches.MOST_READINGS:,}",
    "Names and units of readings, base names resolved": (
        f"{mib(readings.MOST_CHARACTERS)} a reading batch, {mib(batches.MOST_CHARACTERS)} a batch of events"
    ),
    "Requests of one site, cloud endpoint": (
        f"{server.MOST_BATCHES} batch, {server.MOST_POLLS} polls, {server.MOST_RENEWALS} renewal at a time;"
        f" {batches.SLICE_SECONDS} s of each site's batch in turn"
    ),
    "What is not divided into turns, cloud endpoint": (
        "one event: 0.3 s at the worst; the transaction of a batch: 0.25 s for"
        f" {batches.MOST_READINGS:,} new series, and the time of the disk"
    ),
    "Work for a request without a valid one-time code": (
        f"its JSON is parsed ({kib(bodies.MAX_REQUEST)} at most), and one database lookup"
    ),
    "Work for a renewal without a certificate of this CA": (
        "its JSON and the certificate are parsed, one signature is verified for the CA and for each CA it followed"
    ),
    "A reply of a destination": f"{mib(http_request.MAX_REPLY)}, decompressed; {http_request.TOTAL_SECONDS:.0f} s",
    "`Retry-After`": f"{backoff.LONGEST_RETRY_AFTER / 60:.0f} minutes",
    "An inbox: items of a page; pace; waiting for Home Assistant": (
        f"{inbox.MOST_ITEMS}; one poll and {inbox.ITEMS_A_SECOND} items a second"
        f" after the first {inbox.CREDIT_SECONDS:.0f} s; {proposals.MOST_UNSETTLED:,}"
    ),
    "Settled answers that are remembered": f"{proposals.REMEMBERED:,}",
    "A token; a cursor": (
        f"{server.LONGEST_HEADER} printable characters; 2⁶², and no more than the endpoint's `newest`"
    ),
    "An answer, who gave it, an item's id": (
        f"{inbox.LONGEST_TEXT}, {inbox.LONGEST_TEXT}, {inbox.LONGEST_ID} characters"
    ),
    "Nesting of JSON": f"{bounds.MAX_DEPTH} levels",
    "Valid certificates of a site, cloud endpoint": (
        f"one, and the newest {identity.MOST_UNUSED} that it requested and has not used yet"
    ),
    "Wrong pairing lines": (
        "no limit: each is compared in constant time, writes nothing, and is named in the log"
        f" {logs.ENTRIES_A_MINUTE} times a minute at most"
    ),
    "Messages of one device": (
        f"{rates.RATE:.0f} a second, {rates.BURST:,.0f} at once; {rates.URGENT_RATE:.0f} and"
        f" {rates.URGENT_BURST:.0f} more for booleans, availability and events"
    ),
    "A packet of the MQTT broker": kib(packets.MAX_PACKET),
    "New devices": f"{description_intake.NEW_A_MINUTE} within a minute, {device_table.MAX_DEVICES:,} in all",
    "Withdrawn devices whose readings are kept": f"the {retention.MAX_WITHDRAWN:,} described last",
    "Thing Descriptions": (
        f"{kib(description.MAX_BYTES)} each, {mb(device_table.MAX_DESCRIPTION_BYTES)} in all,"
        f" {mb(description_intake._MAX_QUEUED_BYTES)} waiting"
    ),
    "SenML records of a message; messages written in one transaction": (
        f"{values.MAX_RECORDS:,}; {message_writer._MAX_BATCH_MESSAGES} or {kib(message_writer._MAX_BATCH_BYTES)}"
    ),
    "An entry of the log": (
        f"{logs.LONGEST:,} characters (its beginning; with a trace the first and the last {logs.LONGEST // 2:,}),"
        f" {logs.ENTRIES_A_MINUTE} a minute for each place in the code"
        " (of a link's state: for each destination too); the last one suppressed is logged within two minutes"
    ),
}


def rows() -> dict[str, tuple[str, str]]:
    """Return figure and reason of each bound."""
    table = (TOP / "SECURITY.md").read_text("utf-8").partition("## What is bounded")[2]
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    return {what: (figure, why) for what, figure, why in lines}


def test_the_figures_of_what_is_bounded_are_those_of_the_code() -> None:
    assert {what: figure for what, (figure, _) in rows().items()} == FIGURES


def test_figures_among_the_reasons_are_those_of_the_code() -> None:
    reasons = {what: why for what, (_, why) in rows().items()}
    [values_of_a_batch] = [why for what, why in reasons.items() if what.startswith("Commas")]
    assert values_of_a_batch.startswith(f"at the worst 0.3 s, and {mb(MOST_BYTES)} for the whole process,")
    [peers] = [why for what, why in reasons.items() if what.startswith("Connections of one site")]
    assert f"a program may have {local_programs.MOST_CONNECTIONS} at each endpoint" in peers
    assert f"read at {kib(description_intake._READ_BYTES_A_SECOND)}/s at most" in reasons["Thing Descriptions"]
    assert pairing._SECRET_BYTES * 8 == 256, reasons["Wrong pairing lines"]


def test_figures_that_are_not_in_a_constant_hold() -> None:
    assert inbox.LARGEST_CURSOR == 2**62
    assert is_token("x" * server.LONGEST_HEADER)
    assert not is_token("x" * (server.LONGEST_HEADER + 1))
