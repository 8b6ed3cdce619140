"""Detects that files of the open database were deleted or replaced.

SQLite keeps writing to a deleted file without an error, and its commits are lost when the process ends.
"""

from pathlib import Path

CODE = "store_files_gone"

type Identity = tuple[int, int]


class FileWatch:
    """Compares the database files on disk with those the process has open. Thread-safe."""

    def __init__(self, path: Path) -> None:
        """Watch the database at ``path``; call ``begin`` once all its files are open."""
        self._files = [path.with_name(path.name + rest) for rest in ("", "-wal", "-shm")]
        self._known: dict[Path, Identity] = {}
        self.problem: str | None = None
        """What happened to a file. Never reset: files that reappear are not the open ones."""

    def begin(self) -> None:
        """Record the identity of the current files, all of which the database has open."""
        self._known = {file: found for file in self._files if (found := _identity(file)) is not None}

    def is_ours(self, file: Path) -> bool:
        """Return whether the file at this path is the open one."""
        return _identity(file) == self._known.get(file)

    def find_problem(self) -> str | None:
        """Return which file was deleted or replaced, as a sentence with its code, or None."""
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
