"""The documented table of replies agrees with the code."""

import re

from process_cosmos_gateway.destinations.backoff import CAP_SECONDS, LONGEST_RETRY_AFTER, REFUSED_SECONDS, next_delay
from process_cosmos_gateway.destinations.http_request import MAX_REPLY, Reply
from process_cosmos_gateway.destinations.http_statuses import Meaning
from process_cosmos_gateway.outbox import Limits
from tests.support.documents import TOP

WORDS = {
    Meaning.DELIVERED: "delivered",
    Meaning.REJECTED: "rejected",
    Meaning.RETRY: "tried again",
    Meaning.REFUSED: "refused",
}
PAGE = b"<html><body>Sign in</body></html>"


def table() -> dict[str, tuple[str, str]]:
    """Return the meaning and the consequence of each kind of reply, by the first column."""
    text = (TOP / "docs/destinations.md").read_text()
    section = text.split("## What a reply means\n")[1].split("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if "|" in line]
    return {reply: (means, happens) for reply, means, happens in rows[2:]}


def row_of(status: int) -> tuple[str, str]:
    """Return the row of a reply without a body: the one that names the status, or its class."""
    others = {2: "other 2xx without a body", 3: "redirects", 4: "other 4xx", 5: "5xx"}
    found = table()
    named = [each for reply, each in found.items() if str(status) in re.findall(r"\d{3}(?=,|;|$| without)", reply)]
    [row] = named or [each for reply, each in found.items() if others[status // 100] in reply]
    return row


def meaning(status: int, body: bytes = b"", *, proven: bool = True) -> Meaning:
    return Reply(status=status, body=body).meaning(single=True, proven=proven)


def test_each_status_means_what_its_row_says() -> None:
    means = {status: row_of(status)[0] for status in range(200, 600)}
    assert [status for status, word in means.items() if WORDS[meaning(status)] not in word] == []
    firsts = [status for status in means if meaning(status, proven=False) is not meaning(status)]
    assert firsts == [400]
    pages = [status for status in range(400, 500) if meaning(status, PAGE) is not Meaning.REFUSED]
    assert [means[status] for status in pages] == ["tried again"] * 3


def test_the_consequences_are_stated_with_the_figures_of_the_code() -> None:
    _, refused = row_of(401)
    assert f"every {REFUSED_SECONDS / 60:.0f} minutes" in refused
    _, retried = row_of(503)
    assert f"after {next_delay(1, 0.0)} to {CAP_SECONDS:.0f} s" in retried
    assert f"up to {LONGEST_RETRY_AFTER / 60:.0f} minutes" in retried
    assert f"fails {Limits().strikes} times while others pass" in table()
    assert f"a reply over {MAX_REPLY >> 20} MiB" in " ".join(table())
