"""Recording of file operations on a ``Disk``: SQLite's through a VFS, all others through patched ``os`` calls."""

import os
from collections.abc import Buffer, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import override
from unittest.mock import patch

import apsw

from .disk import Disk, Image, Truncate, Write

_VFS_NUMBERS = count()
_SHARED_MEMORY = "-shm"
"""The shared-memory WAL index is not durable; the first connection after a cut rebuilds it."""
_SYNCS_FOLDER = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class RecordingVfs(apsw.VFS):
    """A VFS that records the operations on files in ``folder`` on ``disk``, and does not perform the syncs."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        """Register the VFS under a unique name."""
        self.name = f"recording-{next(_VFS_NUMBERS)}"
        self.disk = disk
        self._folder = folder
        super().__init__(self.name, base="")

    @override
    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or Path(path).parent != self._folder:
            return apsw.VFSFile("", name, flags)
        return _RecordingFile(self.disk, Path(path).name, name, flags)

    @override
    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, False)
        if Path(filename).parent == self._folder and self.disk.has_file(Path(filename).name):
            self.disk.remove(Path(filename).name)
            if syncdir:
                self.disk.sync_folder()


class _RecordingFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str, path: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", path, flags)
        self._disk = disk
        self._file = disk.file(name)
        # SQLite's own VFS also syncs the folder at the first sync of a journal or WAL file that it created.
        self._with_folder = bool(flags[0] & _SYNCS_FOLDER)

    @override
    def xWrite(self, data: Buffer, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.steps.append(Write(self._file, offset, bytes(data)))

    @override
    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._disk.steps.append(Truncate(self._file, newsize))

    @override
    def xSync(self, flags: int) -> None:
        self._disk.sync(self._file, with_folder=self._with_folder)


@contextmanager
def recorded(folder: Path, disk: Disk) -> Iterator[str]:
    """Record on ``disk`` all file operations in ``folder``; yield the name of the VFS for SQLite.

    The content of a file that SQLite does not write is recorded when the file is synced or renamed: before that, no
    guarantee depends on it.
    """
    vfs = RecordingVfs(folder, disk)
    with ExitStack() as stack:
        stack.callback(vfs.unregister)
        for name in ("fsync", "fdatasync"):
            stack.enter_context(patch.object(os, name, _sync_fn(folder, disk, getattr(os, name))))
        for name in ("rename", "replace"):
            stack.enter_context(patch.object(os, name, _rename_fn(folder, disk, getattr(os, name))))
        for name in ("unlink", "remove"):
            stack.enter_context(patch.object(os, name, _remove_fn(folder, disk, getattr(os, name))))
        yield vfs.name


def _sync_fn(folder: Path, disk: Disk, real: Callable[[int], None]) -> Callable[[int], None]:
    def sync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path == folder:
            disk.sync_folder()
        elif path.parent == folder:
            _record_content(path, disk)
            disk.sync(disk.file(path.name))
        else:
            real(descriptor)

    return sync


def _rename_fn(folder: Path, disk: Disk, real: Callable[..., None]) -> Callable[..., None]:
    def rename(source: Path | str, target: Path | str) -> None:
        if Path(source).parent == folder:
            _record_content(Path(source), disk)
        real(source, target)
        if Path(source).parent == folder:
            disk.rename(Path(source).name, Path(target).name)

    return rename


def _remove_fn(folder: Path, disk: Disk, real: Callable[..., None]) -> Callable[..., None]:
    def remove(path: Path | str, **more: int) -> None:
        real(path, **more)
        if Path(path).parent == folder and disk.has_file(Path(path).name):
            disk.remove(Path(path).name)

    return remove


def _record_content(path: Path, disk: Disk) -> None:
    """Record the changes of ``path`` that were not recorded when they were written."""
    file = disk.file(path.name)
    content = path.read_bytes()
    before = disk.content(file)
    if content == before:
        return
    differ = (number for number, (old, new) in enumerate(zip(before, content, strict=False)) if old != new)
    common = next(differ, min(len(before), len(content)))
    if len(before) > common:
        disk.steps.append(Truncate(file, common))
    if len(content) > common:
        disk.steps.append(Write(file, common, content[common:]))


def lay_out(image: Image, folder: Path) -> None:
    """Write the files of ``image`` to a new ``folder``, without shared-memory files."""
    folder.mkdir(mode=0o700)
    for name, content in image.items():
        if not name.endswith(_SHARED_MEMORY):
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
