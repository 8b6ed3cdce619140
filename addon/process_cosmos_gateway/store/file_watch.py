"""Notices that the files of the open database were deleted or replaced.

SQLite goes on in a deleted file without an error: what is committed there is gone with the process.
"""

from pathlib import Path

CODE = "store_files_gone"

type Identity = tuple[int, int]


class Presence:
    """Which files the open database consists of; any thread may ask."""

    def __init__(self, path: Path) -> None:
        """Take where the database is; what its files are is known from ``begin`` on, once all are open."""
        self._files = [path.with_name(path.name + rest) for rest in ("", "-wal", "-shm")]
        self._known: dict[Path, Identity] = {}
        self.problem: str | None = None
        """What is wrong; it stays: the files that come back are others."""

    def begin(self) -> None:
        """Remember the files that are there now, all of which the database has open."""
        self._known = {file: found for file in self._files if (found := _identity(file)) is not None}

    def is_ours(self, file: Path) -> bool:
        """Return whether the file at this path is the one that is open."""
        return _identity(file) == self._known.get(file)

    def find_problem(self) -> str | None:
        """Return what happened to a file, if anything did."""
        if self.problem is None:
            for file, known in self._known.items():
                if (found := _identity(file)) != known:
                    what = "deleted" if found is None else "replaced"
                    self.problem = f"{CODE}: {file.name} was {what} while the app used it"
                    break
        return self.problem


def _identity(file: Path) -> Identity | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
