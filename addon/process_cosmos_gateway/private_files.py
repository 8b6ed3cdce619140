"""Small files that only the gateway's user can read, written to survive a power cut."""

import os
from hashlib import sha256
from pathlib import Path


def write_private(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Write ``content`` to ``path`` with mode 0600; after a crash either the old or the new file is complete.

    If ``replace`` is False, an existing file stays unchanged.
    """
    # The process id keeps commands apart that write the same file at the same time.
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        # Before the rename: otherwise a power cut could leave an empty file under the final name.
        os.fsync(file.fileno())
    if replace:
        draft.replace(path)
    else:
        _link(draft, path)
    sync_folder(path.parent)


def move_durably(draft: Path, path: Path) -> None:
    """Replace ``path`` by the complete file ``draft``; after a crash one of the two is there, complete."""
    sync_file(draft)
    draft.replace(path)
    sync_folder(path.parent)


def secret_hash(secret: str) -> str:
    """Return what is stored in place of a secret that is compared only: its SHA-256 in hex."""
    return sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def remove_private(path: Path) -> None:
    """Remove ``path`` durably; raise ``FileNotFoundError`` if it does not exist."""
    path.unlink()
    sync_folder(path.parent)


def _link(draft: Path, path: Path) -> None:
    try:
        # Unlike a rename, a link fails if the name exists, in the same step.
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def is_there(path: Path) -> bool:
    """Return whether ``path`` exists; raise ``OSError`` if that cannot be determined.

    ``Path.exists`` treats every error as absence; a file created for that reason would replace an existing one.
    """
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def make_private(path: Path) -> None:
    """Create the empty file ``path`` with mode 0600; raise ``FileExistsError`` if it exists."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))


def sync_file(path: Path) -> None:
    """Return once the content of ``path`` survives a power cut."""
    _sync(path, os.O_RDONLY)


def sync_folder(folder: Path) -> None:
    """Return once the names in ``folder`` survive a power cut."""
    _sync(folder, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
