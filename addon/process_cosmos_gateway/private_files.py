"""Small files only the gateway may read, which survive a power cut."""

import os
from pathlib import Path


def write_private(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Put ``content`` at ``path`` with mode 0600; after a crash the old or the new file is there, whole.

    With ``replace`` False a file that is there already stays as it is.
    """
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if replace:
        draft.replace(path)
    else:
        _link(draft, path)
    sync_folder(path.parent)


def remove_private(path: Path) -> None:
    """Remove ``path`` for good; raise ``FileNotFoundError`` if it is not there."""
    path.unlink()
    sync_folder(path.parent)


def _link(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def is_there(path: Path) -> bool:
    """Return whether ``path`` exists; raise ``OSError`` where that cannot be told.

    ``Path.exists`` takes each error for an absence: what is made because it is absent would replace what is there.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def make_private(path: Path) -> None:
    """Make the empty file ``path`` with mode 0600; raise ``FileExistsError`` if it is there."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def sync_file(path: Path) -> None:
    """Return when what is written to ``path`` survives a power cut."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Return when the names in ``folder`` survive a power cut."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
