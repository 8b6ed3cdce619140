"""What writes to a disk that remembers: SQLite by way of a VFS, everybody else by way of ``os``."""

import os
from collections.abc import Buffer, Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import override
from unittest.mock import patch

import apsw

from .disk import Disk, Image, Truncate, Write

_NUMBERS = count()
_FORGOTTEN = "-shm"
"""The index of the log is memory: the first to open the database after a cut makes it anew."""
_SYNCS_FOLDER = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_SUPER_JOURNAL


class RecordingVfs(apsw.VFS):
    """The machine's files; what happens to those in ``folder`` is noted on ``disk``, and a sync costs nothing."""

    def __init__(self, folder: Path, disk: Disk) -> None:
        """Register under a name of its own."""
        self.name = f"recording-{next(_NUMBERS)}"
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
        if Path(filename).parent == self._folder and self.disk.knows(Path(filename).name):
            self.disk.remove(Path(filename).name)
            if syncdir:
                self.disk.sync_folder()


class _RecordingFile(apsw.VFSFile):
    def __init__(self, disk: Disk, name: str, path: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", path, flags)
        self._disk = disk
        self._file = disk.file(name)
        # SQLite's own VFS syncs the folder at the first sync of a journal or a log that it made.
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
    """Note on ``disk`` all that is done in ``folder``; yield the name of the VFS for SQLite.

    A file that is not SQLite's is noted when it is synced or renamed, as a whole: until then nothing was promised.
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
            _note_whole(path, disk)
            disk.sync(disk.file(path.name))
        else:
            real(descriptor)

    return sync


def _rename_fn(folder: Path, disk: Disk, real: Callable[..., None]) -> Callable[..., None]:
    def rename(source: Path | str, target: Path | str) -> None:
        if Path(source).parent == folder:
            _note_whole(Path(source), disk)
        real(source, target)
        if Path(source).parent == folder:
            disk.rename(Path(source).name, Path(target).name)

    return rename


def _remove_fn(folder: Path, disk: Disk, real: Callable[..., None]) -> Callable[..., None]:
    def remove(path: Path | str, **more: int) -> None:
        real(path, **more)
        if Path(path).parent == folder and disk.knows(Path(path).name):
            disk.remove(Path(path).name)

    return remove


def _note_whole(path: Path, disk: Disk) -> None:
    """Note what is in ``path`` now, unless everything in it was noted as it was written."""
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
    """Put the files of ``image`` into a new ``folder``."""
    folder.mkdir(mode=0o700)
    for name, content in image.items():
        if not name.endswith(_FORGOTTEN):
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o600)
