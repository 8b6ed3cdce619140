"""Where devices speak MQTT, as a person set it."""

from dataclasses import dataclass, field
from pathlib import Path

DESCRIPTION_TOPICS = ("+", "wot/+/td")
"""Where Thing Descriptions are looked for: node-wot's topics, and ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerOptions:
    """A broker and the way in. ``ca`` None with ``tls``: the system's certificate authorities count.

    ``certificate`` and ``key`` (PEM files) come together. ``topics``: topic filters of Thing Descriptions.
    """

    host: str
    port: int = 1883
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    topics: tuple[str, ...] = DESCRIPTION_TOPICS
