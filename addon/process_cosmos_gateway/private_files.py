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
    _sync_folder(path.parent)


def remove_private(path: Path) -> None:
    """Remove ``path`` for good; raise ``FileNotFoundError`` if it is not there."""
    path.unlink()
    _sync_folder(path.parent)


def _link(draft: Path, path: Path) -> None:
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
