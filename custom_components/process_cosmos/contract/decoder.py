"""Decoder of one connection's frames, which names what it does not know or cannot read once."""

import re
from collections.abc import Mapping

from .bounds import NoteFn
from .codec import decode
from .errors import ContractError

MOST_REPORTS = 100
"""Reports of one connection, so that a peer cannot fill the log."""

_INDEX = re.compile(r"\[\d+\]")


class OncePerPath:
    """Filter of reports about a peer that passes each one on once."""

    def __init__(self, report_fn: NoteFn) -> None:
        """Set the function that gets the path and the reason of each new report."""
        self._report_fn = report_fn
        self._reported: set[tuple[str, str]] = set()

    def __call__(self, path: str, reason: str) -> None:
        """Report ``reason`` at ``path``, unless it was reported before."""
        # Without indexes: a list of a thousand devices has each mistake a thousand times.
        report = _INDEX.sub("[]", path), reason
        if report not in self._reported and len(self._reported) < MOST_REPORTS:
            self._reported.add(report)
            self._report_fn(path, reason)


class Decoder[M]:
    """Decoder of the frames of one connection. ``unknown``: paths in the last frame that are unknown here."""

    def __init__(self, table: Mapping[str, type[M]], report_fn: NoteFn, *, cuts: bool = False) -> None:
        """Set the messages to expect. ``report_fn`` gets each path with its reason once; ``cuts``: see ``decode``."""
        self.unknown: list[str] = []
        self._table = table
        self._report = OncePerPath(report_fn)
        self._cuts = cuts

    def decode(self, frame: bytes | str) -> M:
        """Return the message; raise ``ContractError`` after reporting it, ``UnknownTypeError`` for an unknown type."""
        self.unknown = []
        try:
            return decode(frame, self._table, cuts=self._cuts, note_fn=self._note)
        except ContractError as error:
            self._report(error.path, error.reason)
            raise

    def _note(self, path: str, reason: str) -> None:
        self.unknown.append(path)
        self._report(path, reason)
