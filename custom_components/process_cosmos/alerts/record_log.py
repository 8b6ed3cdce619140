"""One append-only file of records that survives power cuts.

Format: frames of ``length, CRC-32, payload`` (big endian, 4 bytes each). The first payload is the header, which has
the version; the others are lists of ``[run, n, record]`` in JSON. What is
written at once is one frame: a power cut may keep its end without its beginning, and no record may come back without
those before it. So any prefix of the file is a valid memory: what a power cut or a hot copy tore is dropped at the
next start.
"""

import asyncio
import contextlib
import os
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import orjson

from custom_components.process_cosmos.const import LOGGER
from custom_components.process_cosmos.contract.codec import Message, encode, parse
from custom_components.process_cosmos.contract.errors import ContractError
from custom_components.process_cosmos.contract.identifiers import Position, Ulid

from .record_frames import find_frames, frame_of_lines, framed

VERSION = 1
RETRY_AFTER = 10.0
"""Seconds until what could not be written is tried again."""


class RecordLogTooNewError(Exception):
    """A newer version of the integration wrote the file; it is left untouched."""


class _FileGoneError(Exception):
    """The file is not the one that was written before."""


class RecordLogWriteError(Exception):
    """Nothing of it is on disk yet; it stays in RAM and is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry[R]:
    """A record and its position."""

    position: Position
    record: R


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """What each version's first payload has."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header(_Version):
    """The first payload. ``runs``: the last n of each run, which outlives the run's records."""

    runs: Mapping[str, int]


class Memory[R: Message]:
    """Records in order. Queued ones are in ``entries`` at once; ``async_durable`` says when they are on disk.

    ``table``: the records' parsers by type. ``in_executor``: runs a blocking call elsewhere. ``on_durable``: called in
    the event loop with what just reached the disk; ``on_trouble``: with the reason when a write fails, None when one
    succeeds again.
    """

    def __init__(
        self,
        path: Path,
        table: Mapping[str, type[R]],
        in_executor: Callable[..., Awaitable[object]],
        *,
        on_durable: Callable[[Sequence[Entry[R]]], None],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        """Do no I/O yet."""
        self.entries: list[Entry[R]] = []
        self.runs: dict[Ulid, int] = {}
        self.size = 0
        """Bytes on disk."""
        self._path = path
        self._table = table
        self._in_executor = in_executor
        self._on_durable = on_durable
        self._on_trouble = on_trouble
        self._run = Ulid("")
        self._durable: Position | None = None
        self._queue: list[tuple[Entry[R], bytes]] = []
        self._waiting: list[tuple[Position, asyncio.Future[None]]] = []
        self._disk = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._in_trouble = False
        self._closed = False
        self.damaged = 0
        """Bytes between and around sound frames that could not be read."""
        self._is_to_keep = False
        self._identity: tuple[int, int] | None = None
        self.is_new = True
        """Whether ``async_load`` found no file."""
        self.is_empty = False
        """Whether it found one without content: a file of ours is put in place whole, so its content is lost."""

    async def async_load(self) -> None:
        """Read what is there, without a torn tail. Raise ``RecordLogTooNewError`` or ``OSError``."""
        await self._in_executor(self._load)

    @property
    def queued(self) -> list[Entry[R]]:
        """What is not on disk yet."""
        return [entry for entry, _ in self._queue]

    def adopt(self, entries: Iterable[Entry[R]]) -> None:
        """Queue what a memory of the same file could not write before it was closed."""
        for entry in entries:
            if not self.knows(entry.position):
                self._queue.append((entry, _line_of(entry)))
                self.runs[entry.position.run] = entry.position.n
                self.entries.append(entry)

    def begin(self, run: Ulid, record: R) -> Position:
        """Append the first record of a new run."""
        self._run = run
        self.runs[run] = -1
        return self.append(record)

    def append(self, record: R) -> Position:
        """Queue ``record`` and return its position; all that wait share one fsync."""
        n = self.runs[self._run] + 1
        entry = Entry(position=Position(run=self._run, n=n), record=record)
        self._queue.append((entry, _line_of(entry)))
        self.runs[self._run] = n
        self.entries.append(entry)
        self._start_writing()
        return entry.position

    async def async_append(self, record: R) -> Position:
        """Append ``record`` and return when it is on disk; raise ``RecordLogWriteError`` if it is not."""
        position = self.append(record)
        await self.async_durable()
        return position

    async def async_durable(self) -> None:
        """Return once everything appended so far is on disk; raise ``RecordLogWriteError`` if a write fails first."""
        if not self._queue:
            return
        if self._closed:
            raise RecordLogWriteError("closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((self._queue[-1][0].position, future))
        self._start_writing()
        await future

    def durable_after(self, position: Position | None) -> Sequence[Entry[R]]:
        """Return what is on disk after ``position``, in order (None: everything)."""
        start = 0 if position is None else bisect_right(self.entries, position, key=_position)
        end = bisect_right(self.entries, self._durable, key=_position) if self._durable else 0
        return self.entries[start:end]

    def knows(self, position: Position) -> bool:
        """Say whether this memory has ever given out ``position``."""
        return position.n <= self.runs.get(position.run, -1)

    async def async_compact(self, keep: Iterable[Entry[R]]) -> None:
        """Write a new file with ``keep`` and what is queued, and put it in the old one's place. Raise ``OSError``."""
        async with self._disk:
            queued = self.queued
            positions = {entry.position for entry in queued}
            kept = [entry for entry in keep if entry.position not in positions]
            self.entries = kept + queued
            runs = {**self.runs, **{entry.position.run: entry.position.n - 1 for entry in reversed(queued)}}
            await self._in_executor(self._rewrite, kept, runs)

    async def async_close(self) -> None:
        """Write what is queued and stop; what the disk refuses stays ``queued``, what comes later is lost."""
        if self._queue:
            self._start_writing()
        if self._writer:
            await self._writer
        self._closed = True
        if self._retry:
            self._retry.cancel()
        if self._queue:
            LOGGER.error("memory_not_written: %d records of %s could not be written", len(self._queue), self._path.name)

    async def async_remove(self) -> None:
        """Delete the file and what stands beside it."""
        await self._in_executor(self._remove)

    def _start_writing(self) -> None:
        if self._writer is None and not self._closed:
            if self._retry:
                self._retry.cancel()
                self._retry = None
            loop = asyncio.get_running_loop()
            self._writer = loop.create_task(self._write_until_empty(), name="process_cosmos memory")

    async def _write_until_empty(self) -> None:
        try:
            while self._queue:
                async with self._disk:
                    batch = self.queued
                    frame = frame_of_lines(line for _, line in self._queue)
                    try:
                        await self._async_write(frame)
                    except OSError as error:
                        self._refuse(error)
                        return
                    del self._queue[: len(batch)]
                    self._durable = batch[-1].position
                self._confirm(batch)
        finally:
            self._writer = None

    async def _async_write(self, frame: bytes) -> None:
        """Append ``frame``; where somebody deleted or replaced the file, write it anew first. Raise ``OSError``."""
        try:
            await self._in_executor(self._write, frame)
        except _FileGoneError:
            LOGGER.error("memory_rewritten: %s was deleted or replaced while in use; writing it anew", self._path.name)
            durable = self.entries[: len(self.entries) - len(self._queue)]
            runs = {**self.runs, **{entry.position.run: entry.position.n - 1 for entry in reversed(self.queued)}}
            await self._in_executor(self._rewrite, durable, runs)
            await self._in_executor(self._write, frame)

    def _confirm(self, batch: Sequence[Entry[R]]) -> None:
        waiting, self._waiting = self._waiting, []
        for position, future in waiting:
            if position > batch[-1].position:
                self._waiting.append((position, future))
            elif not future.done():
                future.set_result(None)
        if self._in_trouble:
            LOGGER.warning("memory_written: %s takes records again", self._path.name)
            self._in_trouble = False
            self._on_trouble(None)
        self._on_durable(batch)

    def _refuse(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        if not self._in_trouble:
            LOGGER.error("memory_not_written: %s: %s; tried every %d s", self._path.name, reason, RETRY_AFTER)
        waiting, self._waiting = self._waiting, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(RecordLogWriteError(reason))
        self._retry = asyncio.get_running_loop().call_later(RETRY_AFTER, self._start_writing)
        self._in_trouble = True
        self._on_trouble(reason)

    # What follows runs in the executor.

    def _write(self, frame: bytes) -> None:
        """Append ``frame`` to what is durable; opened anew: a failed fsync must not be retried on its handle."""
        if not self.size:
            self._rewrite([], {})
        if self._find_identity() != self._identity:
            raise _FileGoneError
        with self._path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size < self.size:
                raise _FileGoneError
            file.seek(self.size)
            file.truncate()
            file.write(frame)
            file.flush()
            os.fsync(file.fileno())
        self.size += len(frame)

    def _load(self) -> None:
        self.is_new = not self._path.exists()
        content = b"" if self.is_new else self._path.read_bytes()
        self.is_empty = not self.is_new and not content
        self._identity = self._find_identity()
        for begin, end, payload in find_frames(content):
            self.damaged += begin - self.size
            self._remember(payload)
            self.size = end
        if not self.size:
            self.damaged = len(content)
        elif self.size < len(content):
            LOGGER.warning("memory_torn: dropped %d bytes at the end of %s", len(content) - self.size, self._path.name)
        if self.damaged:
            LOGGER.error("memory_damaged: %d bytes of %s cannot be read", self.damaged, self._path.name)
            self._is_to_keep = True
        if self.damaged:
            with contextlib.suppress(OSError):  # else before the next record, or with the next compaction
                self._rewrite(self.entries, self.runs)

    def _remember(self, payload: bytes) -> None:
        try:
            document = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            self._note_unreadable(error)
            return
        match document:
            case [*lines]:
                for line in lines:
                    self._remember_record(line)
            case header:
                self._read_header(header)

    def _note_unreadable(self, error: Exception) -> None:
        """Go on without one record; a copy of the file stays aside, for the record is not written again."""
        LOGGER.error("memory_record_unreadable: %s: %s", self._path.name, error)
        self._is_to_keep = True

    def _remember_record(self, line: Sequence[Any]) -> None:
        try:
            run, n, document = line
            record = parse(self._table[document.pop("type")], document)
        except (ContractError, KeyError, ValueError, TypeError, AttributeError) as error:
            self._note_unreadable(error)
            return
        self._durable = Position(run=Ulid(run), n=n)
        self.runs[self._durable.run] = n
        self.entries.append(Entry(position=self._durable, record=record))

    def _read_header(self, header: Any) -> None:  # noqa: ANN401 - JSON
        # Before anything else: a newer header may hold other members, but never another ``version``.
        version = parse(_Version, header).version
        if version > VERSION:
            raise RecordLogTooNewError(f"a newer version wrote {self._path}; it is left as it is")
        self.runs = {Ulid(run): n for run, n in parse(_Header, header).runs.items()}

    def _rewrite(self, kept: Sequence[Entry[R]], runs: Mapping[Ulid, int]) -> None:
        header = orjson.dumps(_Header(version=VERSION, runs={str(run): n for run, n in runs.items() if n >= 0}))
        content = framed(header) + b"".join(frame_of_lines([_line_of(entry)]) for entry in kept)
        if self._is_to_keep:
            self._keep_aside()
            self._is_to_keep = False
        beside = self._beside
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        self._identity = self._find_identity()
        self.size = len(content)  # at once: whatever fails now, the next record goes behind what is there
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _find_identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino

    def _keep_aside(self) -> None:
        """Copy the damaged file to where nothing is yet: perhaps somebody can read more of it."""
        paths = (self._path.with_name(f"{self._path.name}.damaged-{number}") for number in count(1))
        with self._beside.open("wb") as file:
            file.write(self._path.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        self._beside.replace(next(path for path in paths if not path.exists()))

    def _remove(self) -> None:
        for path in (self._path, self._beside, *self._path.parent.glob(f"{self._path.name}.damaged-*")):
            path.unlink(missing_ok=True)

    @property
    def _beside(self) -> Path:
        return self._path.with_name(self._path.name + ".new")


def _position(entry: Entry[object]) -> Position:
    return entry.position


def _line_of(entry: Entry[Message]) -> bytes:
    summary = orjson.dumps([entry.position.run, entry.position.n])
    return summary[:-1] + b"," + encode(entry.record) + b"]"
