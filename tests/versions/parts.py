"""The version before this one: its programs, and what they wrote; README.md says how it was kept."""

import tarfile
from datetime import UTC, datetime
from pathlib import Path

PREVIOUS = Path(__file__).with_name("previous.tar.xz")

WRITTEN_AT = datetime(2026, 11, 23, 8, 41, 37, tzinfo=UTC)
"""When what is kept of it was written last."""

ANSWERED = "01M83S2GFERMEJQC7C081Q6ZGQ"
"""An escalation that had been answered by then, with "Restart it"."""

ALIVE = {
    "pump": "01M83S2KHQP2E2ZZKR0CKWA4ND",
    "home": "01M83S2KJZPKEWWB9K8NAK2NYY",
    "attic": "01M83S2KMREWPNJX441P6KDVRJ",
    "automation.leak_guard_kitchen": "01M83S2KR1EM0BMXT9PFDSPW7A",
}
"""The escalations that were alive by then, by their group."""


def unpack(part: str, folder: Path) -> Path:
    """Unpack ``gateway``, ``integration`` or ``written`` into ``folder``; return where it is."""
    with tarfile.open(PREVIOUS) as archive:
        found = [member for member in archive if member.name.startswith(f"{part}/")]
        assert found
        archive.extractall(folder, found, filter="data")
    return folder / part
