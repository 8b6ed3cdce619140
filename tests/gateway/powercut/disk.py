"""A model, without I/O, of a disk that records each write and sync and computes its state after a power failure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

SECTOR = 512
"""Bytes per sector, which a disk writes atomically."""


class Kept(StrEnum):
    """The part of the writes after the last fsync of a file that survives a power failure.

    ``torn``: each sector has any of the states it was in, independent of the order of the writes.
    """

    NOTHING = "nothing"
    PREFIX = "prefix"
    TORN = "torn"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Write:
    """A write of bytes at an offset of a file."""

    file: int
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        """Change ``content`` as the file was changed."""
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class Truncate:
    """A change of a file's size, as by ftruncate."""

    file: int
    size: int

    def apply(self, content: bytearray) -> None:
        """Change ``content`` as the file was changed."""
        del content[self.size :]
        content.extend(bytes(self.size - len(content)))


@dataclass(frozen=True, slots=True)
class Sync:
    """An fsync of a file."""

    file: int


@dataclass(frozen=True, slots=True)
class Name:
    """A directory entry: a file was created, renamed from ``old``, or removed (``file`` is None)."""

    name: str
    file: int | None
    old: str | None = None


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """An fsync of the folder, which makes its directory entries durable."""


type Change = Write | Truncate
type Step = Change | Sync | Name | SyncFolder
type Image = Mapping[str, bytes]
"""The contents of the files in the folder, by name."""


@dataclass(slots=True)
class _File:
    synced: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def with_changes(self, changes: Sequence[Change]) -> bytes:
        content = bytearray(self.synced)
        for change in changes:
            change.apply(content)
        return bytes(content)

    def after_cut(self, kept: Kept, random: Random) -> bytes:
        match kept:
            case Kept.NOTHING:
                return self.synced
            case Kept.PREFIX:
                return self.with_changes(self.pending[: random.randint(0, len(self.pending))])
            case Kept.TORN:
                return self._torn(random)
            case Kept.ALL:
                return self.with_changes(self.pending)

    def _torn(self, random: Random) -> bytes:
        """Choose one earlier state for each sector; sectors that were never written hold zeros or random bytes."""
        states = list(self._states())
        size = len(random.choice(states))
        filler = random.choice((bytes(SECTOR), random.randbytes(SECTOR)))
        sectors = []
        for offset in range(0, size, SECTOR):
            choice = random.choice(states)[offset : offset + SECTOR]
            sectors.append(choice + filler[len(choice) :])
        return b"".join(sectors)[:size]

    def _states(self) -> Iterator[bytes]:
        content = bytearray(self.synced)
        yield bytes(content)
        for change in self.pending:
            change.apply(content)
            yield bytes(content)


class Disk:
    """The files of one folder and the steps applied to them, in order."""

    def __init__(self, image: Image) -> None:
        """Start with the files of ``image``, all synced."""
        self.steps: list[Step] = []
        self._image = dict(image)
        self._names = {name: number for number, name in enumerate(image)}
        self._next = len(image)
        self._unsynced_names: set[int] = set()

    def file(self, name: str) -> int:
        """Return the number of the file called ``name``, which is created if there is none."""
        if name not in self._names:
            self._names[name] = self._next
            self._unsynced_names.add(self._next)
            self.steps.append(Name(name, self._next))
            self._next += 1
        return self._names[name]

    def has_file(self, name: str) -> bool:
        """Return whether a file of this name exists."""
        return name in self._names

    def content(self, file: int) -> bytes:
        """Return the current content of a file, synced or not."""
        images = list(self._image.values())
        content = bytearray(images[file] if file < len(images) else b"")
        for step in self.steps:
            if isinstance(step, Write | Truncate) and step.file == file:
                step.apply(content)
        return bytes(content)

    def sync_folder(self) -> None:
        """Record an fsync of the folder."""
        self.steps.append(SyncFolder())

    def sync(self, file: int, *, with_folder: bool = False) -> None:
        """Record an fsync; ``with_folder``: also of the folder if the file is new."""
        self.steps.append(Sync(file))
        if with_folder and file in self._unsynced_names:
            self._unsynced_names.discard(file)
            self.sync_folder()

    def rename(self, old: str, new: str) -> None:
        """Record a rename."""
        file = self._names.pop(old)
        self._names[new] = file
        self.steps.append(Name(new, file, old))

    def remove(self, name: str) -> None:
        """Record the removal of a file."""
        del self._names[name]
        self.steps.append(Name(name, None))

    def cut(self, point: int, kept: Kept, random: Random) -> Image:
        """Return the files after a power failure that follows the first ``point`` steps."""
        files = {number: _File(content) for number, content in enumerate(self._image.values())}
        names = {name: number for number, name in enumerate(self._image)}
        pending: list[Name] = []
        for step in self.steps[:point]:
            match step:
                case Name():
                    pending.append(step)
                    if step.file is not None:
                        files.setdefault(step.file, _File())
                case SyncFolder():
                    _rename_all(names, pending)
                    pending = []
                case Sync():
                    file = files[step.file]
                    files[step.file] = _File(file.with_changes(file.pending))
                case Write() | Truncate():
                    files[step.file].pending.append(step)
        surviving = {Kept.NOTHING: 0, Kept.ALL: len(pending)}
        _rename_all(names, pending[: surviving.get(kept, random.randint(0, len(pending)))])
        return {name: files[number].after_cut(kept, random) for name, number in names.items()}


def _rename_all(names: dict[str, int], changes: Sequence[Name]) -> None:
    for change in changes:
        if change.old is not None:
            names.pop(change.old, None)
        if change.file is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.file
