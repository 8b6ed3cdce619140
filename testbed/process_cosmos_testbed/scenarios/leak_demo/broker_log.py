"""Reads from Mosquitto's log (`log_type all`) which messages a client acknowledged."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_PUBLISHED = re.compile(r"Received PUBLISH from \S+ \(d\d, q[12], r\d, m\d+, '(?P<topic>[^']*)'")
_SENT = re.compile(
    r"Sending PUBLISH to (?P<client>\S+) \(d(?P<dup>\d), q1, r(?P<retained>\d), m(?P<id>\d+), '(?P<topic>[^']*)'"
)
_ACKNOWLEDGED = re.compile(r"Received PUBACK from (?P<client>\S+) \(Mid: (?P<id>\d+)")


@dataclass(slots=True)
class _Topic:
    published: int = 0
    next_sent: int | None = None  # which of the published messages goes out next; None: not subscribed yet


@dataclass(slots=True)
class Acknowledged:
    """For each topic, which of its messages a client acknowledged: indices in the order of publishing.

    ``retained``: messages it received because it subscribed: they report a state, not a transition.
    """

    by_topic: dict[str, set[int]] = field(default_factory=dict)
    retained: dict[str, set[int]] = field(default_factory=dict)
    redelivered: int = 0


def read_acknowledged(client: str, lines: Iterable[str]) -> Acknowledged:
    """Read the broker's log and return what the client whose id ends with ``client`` acknowledged.

    The broker forwards a topic's messages in the order in which it received them, so the n-th one sent to the client
    since it subscribed is the n-th one published since then; a redelivery (d1) repeats one of them.
    """
    result = Acknowledged()
    topics: dict[str, _Topic] = {}
    in_flight: dict[str, tuple[dict[str, set[int]], str, int]] = {}
    for line in lines:
        if match := _PUBLISHED.search(line):
            topics.setdefault(match["topic"], _Topic()).published += 1
        elif (match := _SENT.search(line)) and match["client"].endswith(client):
            if match["dup"] == "1":
                result.redelivered += 1
                continue
            topic = topics.setdefault(match["topic"], _Topic())
            retained = match["retained"] == "1"
            index = topic.published - 1 if retained or topic.next_sent is None else topic.next_sent
            topic.next_sent = index + 1
            in_flight[match["id"]] = (result.retained if retained else result.by_topic, match["topic"], index)
        elif (match := _ACKNOWLEDGED.search(line)) and match["client"].endswith(client) and match["id"] in in_flight:
            kind, topic_name, index = in_flight.pop(match["id"])
            kind.setdefault(topic_name, set()).add(index)
    return result
