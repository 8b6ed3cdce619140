"""A disk that remembers each write and sync, and what may be left of it after a power cut: without I/O."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

SECTOR = 512
"""Bytes a disk writes whole or not at all."""


class Kept(StrEnum):
    """What survives of the writes since the last sync of their file.

    ``torn``: of each sector any state it was in, whatever order that makes.
    """

    NOTHING = "nothing"
    PREFIX = "prefix"
    TORN = "torn"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Write:
    """Bytes put into a file."""

    file: int
    offset: int
    data: bytes

    def apply(self, content: bytearray) -> None:
        """Change ``content`` as the file was changed."""
        content.extend(bytes(max(0, self.offset - len(content))))
        content[self.offset : self.offset + len(self.data)] = self.data


@dataclass(frozen=True, slots=True)
class Truncate:
    """A file cut to a size."""

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
    """A name given to a file (made, renamed), or taken away (None). A rename takes away the ``old`` one."""

    name: str
    file: int | None
    old: str | None = None


@dataclass(frozen=True, slots=True)
class SyncFolder:
    """An fsync of the folder: the names are on disk."""


type Change = Write | Truncate
type Step = Change | Sync | Name | SyncFolder
type Image = Mapping[str, bytes]
"""The files of the folder by name."""


@dataclass(slots=True)
class _File:
    synced: bytes = b""
    pending: list[Change] = field(default_factory=list)

    def after(self, changes: Sequence[Change]) -> bytes:
        content = bytearray(self.synced)
        for change in changes:
            change.apply(content)
        return bytes(content)

    def left(self, kept: Kept, random: Random) -> bytes:
        match kept:
            case Kept.NOTHING:
                return self.synced
            case Kept.PREFIX:
                return self.after(self.pending[: random.randint(0, len(self.pending))])
            case Kept.TORN:
                return self._torn(random)
            case Kept.ALL:
                return self.after(self.pending)

    def _torn(self, random: Random) -> bytes:
        """Choose for each sector one of the states it was in; what was never written is zeros or old bytes."""
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
    """The files of one folder: everything that was done to them, in order."""

    def __init__(self, image: Image) -> None:
        """Begin with ``image``, all of it synced."""
        self.steps: list[Step] = []
        self._image = dict(image)
        self._names = {name: number for number, name in enumerate(image)}
        self._next = len(image)
        self._made: set[int] = set()

    def file(self, name: str) -> int:
        """Return the number of the file that has ``name`` now; it is made if nobody has."""
        if name not in self._names:
            self._names[name] = self._next
            self._made.add(self._next)
            self.steps.append(Name(name, self._next))
            self._next += 1
        return self._names[name]

    def knows(self, name: str) -> bool:
        """Say whether there is a file of this name."""
        return name in self._names

    def content(self, file: int) -> bytes:
        """Return what a program reads from a file now."""
        images = list(self._image.values())
        content = bytearray(images[file] if file < len(images) else b"")
        for step in self.steps:
            if isinstance(step, Write | Truncate) and step.file == file:
                step.apply(content)
        return bytes(content)

    def sync_folder(self) -> None:
        """Note an fsync of the folder."""
        self.steps.append(SyncFolder())

    def sync(self, file: int, *, with_folder: bool = False) -> None:
        """Note an fsync; ``with_folder``: of the folder too, if the file is new."""
        self.steps.append(Sync(file))
        if with_folder and file in self._made:
            self._made.discard(file)
            self.sync_folder()

    def rename(self, old: str, new: str) -> None:
        """Note a rename."""
        file = self._names.pop(old)
        self._names[new] = file
        self.steps.append(Name(new, file, old))

    def remove(self, name: str) -> None:
        """Note that a file is gone."""
        del self._names[name]
        self.steps.append(Name(name, None))

    def cut(self, point: int, kept: Kept, random: Random) -> Image:
        """Return what is on the disk when the power goes after ``point`` steps."""
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
                    files[step.file] = _File(file.after(file.pending))
                case Write() | Truncate():
                    files[step.file].pending.append(step)
        most = {Kept.NOTHING: 0, Kept.ALL: len(pending)}
        _rename_all(names, pending[: most.get(kept, random.randint(0, len(pending)))])
        return {name: files[number].left(kept, random) for name, number in names.items()}


def _rename_all(names: dict[str, int], changes: Sequence[Name]) -> None:
    for change in changes:
        if change.old is not None:
            names.pop(change.old, None)
        if change.file is None:
            names.pop(change.name, None)
        else:
            names[change.name] = change.file
