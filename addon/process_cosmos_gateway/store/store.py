"""The store: a SQLite database whose committed writes survive a power failure."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from errno import EACCES, EPERM, EROFS
from functools import partial
from pathlib import Path
from typing import Any, Never, Self

import apsw
import orjson

from process_cosmos_gateway.contract.codec import parse
from process_cosmos_gateway.contract.destinations import StorageState
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.errors import StartError, StoreError

from . import schema, wal
from .database_thread import DatabaseThread, TransactionHooks
from .deleted_files import rescue
from .disk_reserve import RESERVE, DiskReserve, Space, free_bytes
from .errors import READ_ONLY, StoreDamagedError, StoreFilesGoneError
from .file_watch import FileWatch
from .health import HealthMonitor, StorageHealth
from .opening import prepare, suspect_marker
from .recovery import Recovered
from .transaction import Transaction

_LOGGER = logging.getLogger(__name__)

_QUARANTINED = 1000
"""Rows kept in quarantine, the newest ones."""

_VACUUM_PAGES = 64
"""Pages per vacuum step: about 5 ms of the writer, the longest an urgent event waits for it."""
_MIN_FREE_PAGES = 256
"""Free pages below which none are returned to the disk: the next events need them."""

_SCARCE_RESERVES = 4
"""The disk is scarce below this many free reserves; then the database's free pages count as free space."""

_UPKEEP_SECONDS = 1.0
_IDLE_SECONDS = 5.0
"""Longest time without upkeep: files may be deleted and the disk may fill up although nothing is written."""
_RESCUE_RETRY_SECONDS = 10.0


class Store:
    """One SQLite database with a writer thread and a reader thread. Created by ``Store.open``; ``run`` maintains it.

    ``site``: the permanent identity of this gateway. ``epoch``: changes when the database is new, restored from a
    backup, or recovered. ``recovered``: what the last recovery kept and lost, None: there was none.
    """

    def __init__(self, path: Path, ulid_fn: Callable[[], Ulid], vfs: str | None, disk: DiskReserve) -> None:
        """Create the threads; use ``open`` instead."""
        self.site = Ulid("")
        self.epoch = Ulid("")
        self.recovered: Recovered | None = None
        self._path = path
        self._vfs = vfs
        self._disk = disk
        self._ulid_fn = ulid_fn
        self._files = FileWatch(path)
        self._monitor = HealthMonitor(disk, suspect_marker(path), self._files)
        self._is_rescued = False
        self._free_pages = 0
        self._wal_growth = wal.WalGrowth()
        self._write_events: list[asyncio.Event] = []
        self._has_work = self.watch_writes()
        writer_hooks = TransactionHooks(
            self._monitor.note_failure, self._monitor.note_commit, self._monitor.find_problem
        )
        # A successful read does not show that the disk accepts commits.
        reader_hooks = TransactionHooks(self._monitor.note_failure, lambda: None)
        self._writer = DatabaseThread("store writer", self._connect_writer, "BEGIN IMMEDIATE", writer_hooks)
        self._reader = DatabaseThread(
            "store reader", partial(schema.connect, path, vfs, read_only=True), "BEGIN", reader_hooks
        )

    @classmethod
    async def open(
        cls,
        folder: Path,
        ulid_fn: Callable[[], Ulid],
        *,
        vfs: str | None = None,
        reserve: int = RESERVE,
        free_fn: Callable[[Path], int] = free_bytes,
    ) -> Self:
        """Open the store in ``folder``, or create it. Only a recovery reads the whole database.

        ``reserve``: bytes of the disk reserved for urgent events. Raises ``StartError``, ``StoreError``, and
        ``SchemaTooNewError``, which leaves the database unchanged.
        """
        path = folder / schema.FILE
        try:
            await asyncio.to_thread(prepare, path, ulid_fn, vfs)
            store = cls(path, ulid_fn, vfs, DiskReserve(folder, reserve, free_fn))
        except (apsw.Error, OSError) as error:
            if _is_read_only(error):
                raise StartError(f"The data folder {folder} cannot be written to: {error}", READ_ONLY) from error
            raise StoreError(f"the store in {folder} cannot be opened: {error}") from error
        try:
            meta: dict[str, Any] = dict(
                await store.read(lambda transaction: transaction.rows("SELECT key, value FROM meta"))
            )
        except StoreError:
            await store.close()
            raise
        store.site, store.epoch = Ulid(meta["site"]), Ulid(meta["epoch"])
        if "recovered" in meta:
            store.recovered = parse(Recovered, orjson.loads(meta["recovered"]))
        if wal.KEY not in meta:
            await store._mark_log()
        # After the first transactions: before them the log and its index may not exist yet.
        store._files.begin()
        return store

    @property
    def space(self) -> Space:
        """The free disk space, measured at most once a second and after each failure."""
        return self._disk.space

    def writable(self, transaction: Transaction) -> int:
        """Return how many bytes can be written now, including the database's free pages if the disk is scarce."""
        space = self.space
        if space.free >= _SCARCE_RESERVES * space.reserve:
            return space.free
        [(pages,)] = transaction.rows("PRAGMA freelist_count")
        return space.free + int(pages) * schema.PAGE_BYTES

    @property
    def health(self) -> StorageHealth:
        """The result of the last commit; ``full`` until there is space for the ballast again."""
        return self._monitor.health

    async def write[T](self, change: Callable[[Transaction], T]) -> T:
        """Run ``change`` in the writer thread; return its value once the commit survives a power failure.

        All waiting changes share one transaction. An exception of ``change`` undoes only this change and is raised
        here; after a ``StoreError`` nothing of it is on disk. ``change`` runs a second time if deleting the ballast
        has freed space on a full disk.
        """
        try:
            value: T = await self._writer.do(change)
        finally:
            for event in self._write_events:
                event.set()
        return value

    async def read[T](self, query: Callable[[Transaction], T]) -> T:
        """Run ``query`` in the reader thread on one consistent, committed state; raise ``StoreError`` if that fails."""
        try:
            value: T = await self._reader.do(query)
        except StoreError:
            self._has_work.set()
            raise
        return value

    def watch_writes(self) -> asyncio.Event:
        """Return an event that is set after each write, also after a failed one; the caller clears it."""
        event = asyncio.Event()
        self._write_events.append(event)
        return event

    @staticmethod
    def quarantine(transaction: Transaction, table: str, row: Sequence[Any]) -> None:
        """Copy a damaged ``row`` of ``table`` to the quarantine for inspection; the newest 1,000 rows are kept."""
        transaction.run(
            "INSERT INTO quarantine (origin, row, set_aside_at) VALUES (?, ?, ?)",
            table,
            orjson.dumps([value.hex() if isinstance(value, bytes) else value for value in row]),
            time.time(),
        )
        transaction.run("DELETE FROM quarantine WHERE number <= (SELECT max(number) FROM quarantine) - ?", _QUARANTINED)

    async def run(self) -> Never:
        """Restore the ballast, retry a failed disk, return free pages and checkpoint the log, until cancelled.

        Works at most once a second while something is written, otherwise every ``_IDLE_SECONDS``.

        Raises ``StoreDamagedError`` once a page could not be read, and ``StoreFilesGoneError`` once the content of
        deleted files is saved. State cached from the database is invalid then; the next ``open`` recovers.
        """
        was_written = True  # perhaps before a crash
        while True:
            self._has_work.clear()
            if self._monitor.damage is not None:
                raise StoreDamagedError(f"the database is damaged: {self._monitor.damage}")
            if problem := self._monitor.find_problem():
                if await self._rescue():
                    raise StoreFilesGoneError(problem)
                await asyncio.sleep(_RESCUE_RETRY_SECONDS)
                continue
            if self._disk.needs_ballast:
                with suppress(OSError):
                    await asyncio.to_thread(self._disk.restore_ballast)
            with suppress(StoreError):
                if self.health.state is not StorageState.OK:
                    await self.write(_probe)
                if was_written:
                    await self._return_pages_after_drain()
            if self._wal_growth.is_checkpoint_due():
                with suppress(apsw.Error, OSError):
                    await asyncio.to_thread(schema.checkpoint, self._path, self._vfs, cut=False)
            was_written = await self._wait_for_work()

    async def _wait_for_work(self) -> bool:
        """Return True a second after the next write, or False after ``_IDLE_SECONDS`` without one."""
        if self.health.state is StorageState.OK:
            try:
                async with asyncio.timeout(_IDLE_SECONDS):
                    await self._has_work.wait()
            except TimeoutError:
                return False
        await asyncio.sleep(_UPKEEP_SECONDS)
        return True

    async def return_free_pages(self) -> None:
        """Return free pages to the disk in small commits, between which other writes run; truncate the log."""
        left, before = await self.read(_free_pages), -1
        while left and left != before:
            began = time.monotonic()
            before, left = left, await self.write(_vacuum_step)
            # Leaves two thirds of the writer's time to other commits.
            await asyncio.sleep(2 * (time.monotonic() - began))
        await self.write(wal.unmark)
        await asyncio.to_thread(schema.checkpoint, self._path, self._vfs, cut=True)
        await self._mark_log()

    async def close(self) -> None:
        """Commit the waiting writes, then close the database."""
        if self._monitor.find_problem() and not self._is_rescued:
            await self._rescue()
        unmarked = False
        with suppress(StoreError):
            await self.write(wal.unmark)
            unmarked = True
        await self._reader.close()
        await self._writer.close()
        if unmarked:
            with suppress(apsw.Error, OSError):
                await asyncio.to_thread(schema.checkpoint, self._path, self._vfs, cut=True, remove=True)

    def _connect_writer(self) -> apsw.Connection:
        return self._wal_growth.follow(schema.connect(self._path, self._vfs, read_only=False))

    async def _rescue(self) -> bool:
        """Save the content of deleted files through the open handles; return False if it must be retried."""
        is_ours = self._files.is_ours(self._path)
        save = partial(rescue, path=self._path, vfs=self._vfs, ulid_fn=self._ulid_fn, is_ours=is_ours)
        try:
            if not await self._writer.borrow(save) and not await self._reader.borrow(save):
                _LOGGER.error("%s. No handle of it is open, so its content cannot be saved", self._files.problem)
        except (apsw.Error, OSError) as error:
            if isinstance(error, apsw.FullError):
                self._disk.delete_ballast()
            _LOGGER.exception(
                "%s. Its content cannot be saved yet; retrying every 10 seconds. Free disk space", self._files.problem
            )
            return False
        self._is_rescued = True
        return True

    async def _mark_log(self) -> None:
        """Mark that the log exists, so that the next open notices its loss. The next commit reports a failing disk."""
        with suppress(StoreError, apsw.Error):
            await self.write(wal.mark)
            await asyncio.to_thread(schema.checkpoint, self._path, self._vfs, cut=False)

    async def _return_pages_after_drain(self) -> None:
        free = await self.read(_free_pages)
        # More free pages than a second ago: a drain is under way, and needs the disk for itself.
        grows, self._free_pages = free > self._free_pages, free
        if free < self._min_free_pages():
            return
        if grows:
            self._has_work.set()
        else:
            await self.return_free_pages()
            self._free_pages = 0

    def _min_free_pages(self) -> int:
        """Return from how many free pages on they go back to the disk; a scarce disk's are kept for urgent events."""
        space = self.space
        return max(_MIN_FREE_PAGES, (_SCARCE_RESERVES * space.reserve - space.free) // schema.PAGE_BYTES)


def _probe(transaction: Transaction) -> None:
    transaction.run("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", time.time())


def _free_pages(transaction: Transaction) -> int:
    [(free,)] = transaction.rows("PRAGMA freelist_count")
    return int(free)


def _vacuum_step(transaction: Transaction) -> int:
    transaction.rows(f"PRAGMA incremental_vacuum({_VACUUM_PAGES})")
    return _free_pages(transaction)


def _is_read_only(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (EROFS, EACCES, EPERM)
    return isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError)
