"""Append-only file of records that survives power failures.

Format: frames of ``length, CRC-32, payload`` (big endian, 4 bytes each). The first payload is the header with the
version; the others are JSON lists of ``[run, n, record]``. Each write is one
frame, because a power failure may preserve the end of a write without its beginning, and no record may survive without
its predecessors. So any prefix of the file is a valid log; an incomplete end, left by a power failure or a copy of the
file in use, is dropped at the next start.
"""

import asyncio
import contextlib
import os
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Any

import orjson

from custom_components.process_cosmos.const import LOGGER
from custom_components.process_cosmos.contract.codec import Message, encode, parse
from custom_components.process_cosmos.contract.errors import ContractError
from custom_components.process_cosmos.contract.identifiers import Position, Ulid
from custom_components.process_cosmos.errors import CosmosError

from .record_frames import encode_batch, encode_frame, find_frames

VERSION = 1
RETRY_AFTER = 10.0
"""Seconds until a failed write is retried."""


class RecordLogTooNewError(CosmosError):
    """A newer version of the integration wrote the file, which is left unchanged."""


class _FileReplacedError(CosmosError):
    """The file was deleted, replaced or truncated by another program."""


class RecordLogWriteError(CosmosError):
    """Records could not be written to disk; they stay in RAM and writing is retried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry[R]:
    """A record with its position in the log."""

    position: Position
    record: R


@dataclass(frozen=True, slots=True, kw_only=True)
class _Version:
    """Part of the header that all versions share."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header(_Version):
    """Header, the first payload. ``runs``: the last n of each run, kept even after the run's records are deleted."""

    runs: Mapping[str, int]


class RecordLog[R: Message]:
    """Log of records. Appended records are in ``entries`` at once; ``async_flush`` waits until they are on disk.

    ``record_types``: record classes by type. ``in_executor``: runs a blocking call in another thread. ``on_durable``:
    called in the event loop with entries that reached the disk; ``on_write_error``: with the reason when a write fails,
    and with None when a write succeeds again.
    """

    def __init__(
        self,
        path: Path,
        record_types: Mapping[str, type[R]],
        in_executor: Callable[..., Awaitable[object]],
        *,
        on_durable: Callable[[Sequence[Entry[R]]], None],
        on_write_error: Callable[[str | None], None],
    ) -> None:
        """Create the log without I/O."""
        self.entries: list[Entry[R]] = []
        self.runs: dict[Ulid, int] = {}
        self.size = 0
        """Length of the file's valid part in bytes."""
        self._path = path
        self._record_types = record_types
        self._in_executor = in_executor
        self._on_durable = on_durable
        self._on_write_error = on_write_error
        self._run = Ulid("")
        self._durable: Position | None = None
        self._queue: list[tuple[Entry[R], bytes]] = []
        self._waiters: list[tuple[Position, asyncio.Future[None]]] = []
        self._file_lock = asyncio.Lock()
        self._writer: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._is_failing = False
        self._closed = False
        self.damaged = 0
        """Bytes between and around valid frames that could not be read."""
        self._copy_before_rewrite = False
        self._identity: tuple[int, int] | None = None
        self.is_new = True
        """Whether ``async_load`` found no file."""
        self.is_empty = False
        """Whether it found an empty file, whose content was lost: new files are put in place with their content."""

    async def async_load(self) -> None:
        """Read the file, dropping an incomplete end. Raise ``RecordLogTooNewError`` or ``OSError``."""
        await self._in_executor(self._load)

    @property
    def queued(self) -> list[Entry[R]]:
        """Entries that are not on disk yet."""
        return [entry for entry, _ in self._queue]

    def requeue(self, entries: Iterable[Entry[R]]) -> None:
        """Queue ``entries`` that an earlier log of the same file could not write before it was closed."""
        for entry in entries:
            if not self.has_assigned(entry.position):
                self._queue.append((entry, _line_of(entry)))
                self.runs[entry.position.run] = entry.position.n
                self.entries.append(entry)

    def begin_run(self, run: Ulid, record: R) -> Position:
        """Begin ``run`` and append its first record; return its position."""
        self._run = run
        self.runs[run] = -1
        return self.append(record)

    def append(self, record: R) -> Position:
        """Queue ``record`` and return its position. All queued records share one fsync."""
        n = self.runs[self._run] + 1
        entry = Entry(position=Position(run=self._run, n=n), record=record)
        self._queue.append((entry, _line_of(entry)))
        self.runs[self._run] = n
        self.entries.append(entry)
        self._start_writing()
        return entry.position

    async def async_flush(self) -> None:
        """Wait until all appended records are on disk; raise ``RecordLogWriteError`` if a write fails first."""
        if not self._queue:
            return
        if self._closed:
            raise RecordLogWriteError("closed")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._queue[-1][0].position, future))
        self._start_writing()
        await future

    def durable_after(self, position: Position | None) -> Sequence[Entry[R]]:
        """Return the entries on disk after ``position``, in order (None: all)."""
        start = 0 if position is None else bisect_right(self.entries, position, key=attrgetter("position"))
        end = bisect_right(self.entries, self._durable, key=attrgetter("position")) if self._durable else 0
        return self.entries[start:end]

    def has_assigned(self, position: Position) -> bool:
        """Return whether this log has ever assigned ``position`` to a record."""
        return position.n <= self.runs.get(position.run, -1)

    async def async_compact(self, retained: Iterable[Entry[R]]) -> None:
        """Replace the file by a new one with ``retained`` and all queued entries. Raise ``OSError``."""
        async with self._file_lock:
            queued = self.queued
            positions = {entry.position for entry in queued}
            kept = [entry for entry in retained if entry.position not in positions]
            self.entries = kept + queued
            # Queued entries are not in the new file: if they are lost, their positions must not count as assigned.
            runs = {**self.runs, **{entry.position.run: entry.position.n - 1 for entry in reversed(queued)}}
            await self._in_executor(self._rewrite, kept, runs)

    async def async_close(self) -> None:
        """Write the queue and stop; records that cannot be written stay ``queued``, later ones are not written."""
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
        """Delete the file, its temporary file and the copies of damaged files."""
        await self._in_executor(self._remove)

    def _start_writing(self) -> None:
        if self._writer is None and not self._closed:
            if self._retry:
                self._retry.cancel()
                self._retry = None
            loop = asyncio.get_running_loop()
            self._writer = loop.create_task(self._write_until_empty(), name="process_cosmos record log")

    async def _write_until_empty(self) -> None:
        try:
            while self._queue:
                async with self._file_lock:
                    batch = self.queued
                    frame = encode_batch(line for _, line in self._queue)
                    try:
                        await self._async_write(frame)
                    except OSError as error:
                        self._report_failure(error)
                        return
                    del self._queue[: len(batch)]
                    self._durable = batch[-1].position
                self._report_durable(batch)
        finally:
            self._writer = None

    async def _async_write(self, frame: bytes) -> None:
        """Append ``frame``; if the file was deleted or replaced, write all records again first. Raise ``OSError``."""
        try:
            await self._in_executor(self._write, frame)
        except _FileReplacedError:
            LOGGER.error("memory_rewritten: %s was deleted or replaced while in use; writing it again", self._path.name)
            durable = self.entries[: len(self.entries) - len(self._queue)]
            runs = {**self.runs, **{entry.position.run: entry.position.n - 1 for entry in reversed(self.queued)}}
            await self._in_executor(self._rewrite, durable, runs)
            await self._in_executor(self._write, frame)

    def _report_durable(self, batch: Sequence[Entry[R]]) -> None:
        waiting, self._waiters = self._waiters, []
        for position, future in waiting:
            if position > batch[-1].position:
                self._waiters.append((position, future))
            elif not future.done():
                future.set_result(None)
        if self._is_failing:
            LOGGER.warning("memory_written: %s can be written again; all records are saved", self._path.name)
            self._is_failing = False
            self._on_write_error(None)
        self._on_durable(batch)

    def _report_failure(self, error: OSError) -> None:
        reason = error.strerror or type(error).__name__
        if not self._is_failing:
            LOGGER.error(
                "memory_not_written: %s cannot be written (%s), so a power failure would lose changes of alerts; free"
                " disk space; writing is retried every %d s",
                self._path.name,
                reason,
                RETRY_AFTER,
            )
        waiting, self._waiters = self._waiters, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(RecordLogWriteError(reason))
        self._retry = asyncio.get_running_loop().call_later(RETRY_AFTER, self._start_writing)
        self._is_failing = True
        self._on_write_error(reason)

    # All following methods run in the executor.

    def _write(self, frame: bytes) -> None:
        """Append ``frame`` to the reopened file: a failed fsync must not be retried on the same handle."""
        if not self.size:
            self._rewrite([], {})
        if self._find_identity() != self._identity:
            raise _FileReplacedError
        with self._path.open("r+b") as file:
            if os.fstat(file.fileno()).st_size < self.size:
                raise _FileReplacedError
            file.seek(self.size)
            # A failed write may have left bytes behind the valid part.
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
            self._load_payload(payload)
            self.size = end
        if not self.size:
            self.damaged = len(content)
        elif self.size < len(content):
            dropped = len(content) - self.size
            LOGGER.warning(
                "memory_torn: dropped %d incompletely written bytes at the end of %s", dropped, self._path.name
            )
        if self.damaged:
            LOGGER.error("memory_damaged: %d bytes of %s cannot be read; check the disk", self.damaged, self._path.name)
            self._copy_before_rewrite = True
            with contextlib.suppress(OSError):  # otherwise before the first record, or with the next compaction
                self._rewrite(self.entries, self.runs)

    def _load_payload(self, payload: bytes) -> None:
        try:
            document = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            self._skip_unreadable(error)
            return
        match document:
            case [*lines]:
                for line in lines:
                    self._load_record(line)
            case header:
                self._read_header(header)

    def _skip_unreadable(self, error: Exception) -> None:
        """Skip one record; the file is copied before it is rewritten without that record."""
        LOGGER.error("memory_record_unreadable: skipped a record of %s: %s", self._path.name, error)
        self._copy_before_rewrite = True

    def _load_record(self, line: Sequence[Any]) -> None:
        try:
            run, n, document = line
            record = parse(self._record_types[document.pop("type")], document)
        except (ContractError, KeyError, ValueError, TypeError, AttributeError) as error:
            self._skip_unreadable(error)
            return
        self._durable = Position(run=Ulid(run), n=n)
        self.runs[self._durable.run] = n
        self.entries.append(Entry(position=self._durable, record=record))

    def _read_header(self, header: Any) -> None:  # noqa: ANN401 - JSON
        # Parsed first: a newer header may have other members, but always ``version``.
        version = parse(_Version, header).version
        if version > VERSION:
            raise RecordLogTooNewError(f"A newer version wrote {self._path}, which is left unchanged.")
        self.runs = {Ulid(run): n for run, n in parse(_Header, header).runs.items()}

    def _rewrite(self, kept: Sequence[Entry[R]], runs: Mapping[Ulid, int]) -> None:
        header = orjson.dumps(_Header(version=VERSION, runs={str(run): n for run, n in runs.items() if n >= 0}))
        content = encode_frame(header) + b"".join(encode_batch([_line_of(entry)]) for entry in kept)
        if self._copy_before_rewrite:
            self._copy_damaged_file()
            self._copy_before_rewrite = False
        self._write_new(self._path, content)
        self._identity = self._find_identity()
        self.size = len(content)  # set before the fsync of the folder, which may fail: the next record is appended here
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

    def _copy_damaged_file(self) -> None:
        """Copy the damaged file to an unused name, so that its records may be recovered by hand."""
        paths = (self._path.with_name(f"{self._path.name}.damaged-{number}") for number in count(1))
        self._write_new(next(path for path in paths if not path.exists()), self._path.read_bytes())

    def _write_new(self, path: Path, content: bytes) -> None:
        """Write ``content`` to ``path``, at which an old file stays complete until the new one is on disk."""
        with self._temporary_path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        self._temporary_path.replace(path)

    def _remove(self) -> None:
        for path in (self._path, self._temporary_path, *self._path.parent.glob(f"{self._path.name}.damaged-*")):
            path.unlink(missing_ok=True)

    @property
    def _temporary_path(self) -> Path:
        return self._path.with_name(self._path.name + ".new")


def _line_of(entry: Entry[Message]) -> bytes:
    summary = orjson.dumps([entry.position.run, entry.position.n])
    return summary[:-1] + b"," + encode(entry.record) + b"]"
