"""The store: what it has accepted survives a power cut."""

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

from process_cosmos_gateway.contract.destinations import StorageState
from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.errors import StoreError

from . import schema, wal
from .database_thread import DatabaseThread, Ends
from .deleted_files import rescue
from .disk_reserve import RESERVE, Disk, Space, free_bytes
from .errors import StoreDamagedError, StoreFilesGoneError, StoreReadOnlyError
from .file_watch import Presence
from .health import StorageHealth, Watch
from .opening import prepare, suspect_marker
from .recovery import Recovered
from .transaction import Transaction

_LOGGER = logging.getLogger(__name__)

_QUARANTINED = 1000
"""Damaged rows that are kept, the newest."""

_BITE_PAGES = 64
"""Some 5 ms of the writer: an alarm that comes meanwhile waits no longer."""
_WORTH_PAGES = 256
"""Free pages below which nothing is given back: the next events need them."""

_SCARCE = 4
"""Reserves of free disk below which the database's free pages matter."""

_UPKEEP_SECONDS = 1.0
_RESCUE_AGAIN_SECONDS = 10.0


class Store:
    """One SQLite database: one thread writes, one reads. Made by ``Store.open``; ``run`` keeps its house in order.

    ``site``: who this gateway is, for ever. ``epoch``: new when the database is new, came out of a backup or was
    salvaged. ``recovered``: what the last salvage kept and lost, None: there was none.
    """

    def __init__(self, path: Path, ulid_fn: Callable[[], Ulid], vfs: str | None, disk: Disk) -> None:
        """Begin the threads; ``open`` does the rest."""
        self.site = Ulid("")
        self.epoch = Ulid("")
        self.recovered: Recovered | None = None
        self._path = path
        self._vfs = vfs
        self._disk = disk
        self._ulid_fn = ulid_fn
        self._presence = Presence(path)
        self._watch = Watch(disk, suspect_marker(path), self._presence)
        self._is_rescued = False
        self._free_pages = 0
        self._growth = wal.Growth()
        writing = Ends(self._watch.failed, self._watch.committed, self._watch.find_problem)
        # A read that succeeds says nothing of a disk that takes no commits.
        reading = Ends(self._watch.failed, lambda: None)
        self._writer = DatabaseThread("store writer", self._connect_writer, "BEGIN IMMEDIATE", writing)
        self._reader = DatabaseThread(
            "store reader", partial(schema.connect, path, vfs, read_only=True), "BEGIN", reading
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
        """Open the store in ``folder``, or make it; nothing is scanned, but to salvage a damaged one.

        ``reserve``: bytes of the disk kept for alarms. Raises ``StoreReadOnlyError``, ``StoreError``;
        ``SchemaTooNewError`` leaves the database as it is.
        """
        path = folder / schema.FILE
        try:
            await asyncio.to_thread(prepare, path, ulid_fn, vfs)
            store = cls(path, ulid_fn, vfs, Disk(folder, reserve, free_fn))
        except (apsw.Error, OSError) as error:
            if _is_read_only(error):
                raise StoreReadOnlyError(f"The data folder {folder} cannot be written to: {error}") from error
            raise StoreError(f"the store in {folder} cannot be opened: {error}") from error
        try:
            meta: dict[str, Any] = dict(
                await store.read(lambda transaction: transaction.rows("SELECT key, value FROM meta"))
            )
        except StoreError:
            await store.close()
            raise
        store.site, store.epoch = Ulid(meta["site"]), Ulid(meta["epoch"])
        if "salvaged" in meta:
            store.recovered = Recovered.decode(meta["salvaged"])
        if wal.KEY not in meta:
            await store._mark_log()
        store._presence.begin()
        return store

    @property
    def space(self) -> Space:
        """The room on the disk, looked at no more than once a second and after each failure."""
        return self._disk.space

    def writable(self, transaction: Transaction) -> int:
        """Return how many bytes can be written now; the database's free pages count where the disk is nearly full."""
        space = self.space
        if space.free >= _SCARCE * space.reserve:
            return space.free
        [(pages,)] = transaction.rows("PRAGMA freelist_count")
        return space.free + int(pages) * schema.PAGE_BYTES

    @property
    def health(self) -> StorageHealth:
        """How the disk took the last commit; full until there is room for the ballast again."""
        return self._watch.health

    async def write[T](self, change: Callable[[Transaction], T]) -> T:
        """Run ``change`` in the writer's thread; return its value once it survives a power cut.

        All changes that wait share one transaction. An exception of ``change`` undoes it alone and is raised here;
        ``StoreError``: nothing of it is on disk. ``change`` runs once more where the ballast makes room on a full disk.
        """
        value: T = await self._writer.do(change)
        return value

    async def read[T](self, question: Callable[[Transaction], T]) -> T:
        """Run ``question`` on one consistent state of what is committed; raise ``StoreError`` if it cannot be read."""
        value: T = await self._reader.do(question)
        return value

    @staticmethod
    def quarantine(transaction: Transaction, table: str, row: Sequence[Any]) -> None:
        """Keep a copy of a damaged ``row`` of ``table`` for a person, in this transaction; the newest 1,000 stay."""
        transaction.run(
            "INSERT INTO quarantine (origin, row, set_aside_at) VALUES (?, ?, ?)",
            table,
            orjson.dumps([value.hex() if isinstance(value, bytes) else value for value in row]),
            time.time(),
        )
        transaction.run("DELETE FROM quarantine WHERE number <= (SELECT max(number) FROM quarantine) - ?", _QUARANTINED)

    async def run(self) -> Never:
        """Take in the ballast, try a disk that failed, give free pages back, copy the log; until cancelled.

        Raises ``StoreDamagedError`` once a page could not be read, or what was left of deleted files is saved: what
        this process remembers of the database counts no more, and the next ``open`` begins with what can be read.
        """
        while True:
            if self._watch.damage is not None:
                raise StoreDamagedError(f"the store is damaged: {self._watch.damage}")
            if problem := self._watch.find_problem():
                if await self._rescue():
                    raise StoreFilesGoneError(problem)
                await asyncio.sleep(_RESCUE_AGAIN_SECONDS)
                continue
            with suppress(OSError):
                await asyncio.to_thread(self._disk.take_ballast)
            with suppress(StoreError):
                if self.health.state is not StorageState.OK:
                    await self.write(_probe)
                await self._give_back_after_drain()
            if self._growth.is_worth_copying():
                with suppress(apsw.Error, OSError):
                    await asyncio.to_thread(schema.checkpoint, self._path, self._vfs, cut=False)
            await asyncio.sleep(_UPKEEP_SECONDS)

    async def give_back(self) -> None:
        """Give the pages nobody needs back to the disk, a bite a commit; others take their turns in between."""
        left, before = await self.read(_free_pages), -1
        while left and left != before:
            began = time.monotonic()
            before, left = left, await self.write(_give_back_bite)
            await asyncio.sleep(2 * (time.monotonic() - began))
        await self.write(wal.unmark)
        await asyncio.to_thread(schema.checkpoint, self._path, self._vfs, cut=True)
        await self._mark_log()

    async def close(self) -> None:
        """Write what waits, then let go of the database."""
        if self._watch.find_problem() and not self._is_rescued:
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
        return self._growth.follow(schema.connect(self._path, self._vfs, read_only=False))

    async def _rescue(self) -> bool:
        """Save what the open handles still read of deleted files; return whether there is nothing left to wait for."""
        is_ours = self._presence.is_ours(self._path)
        save = partial(rescue, path=self._path, vfs=self._vfs, ulid_fn=self._ulid_fn, is_ours=is_ours)
        try:
            if not await self._writer.borrow(save) and not await self._reader.borrow(save):
                _LOGGER.error("%s: no handle is open any more", self._presence.problem)
        except (apsw.Error, OSError) as error:
            if isinstance(error, apsw.FullError):
                self._disk.give_up_ballast()
            _LOGGER.exception("%s, and what the app still has open cannot be saved yet", self._presence.problem)
            return False
        self._is_rescued = True
        return True

    async def _mark_log(self) -> None:
        """Let the next open know if the log is lost; a disk that refuses is met again with the next commit."""
        with suppress(StoreError, apsw.Error):
            await self.write(wal.mark)
            await asyncio.to_thread(schema.checkpoint, self._path, self._vfs, cut=False)

    async def _give_back_after_drain(self) -> None:
        free = await self.read(_free_pages)
        # More than a second ago: a drain is on, which needs the disk for itself.
        grows, self._free_pages = free > self._free_pages, free
        if free >= self._worth_giving_back() and not grows:
            await self.give_back()
            self._free_pages = 0

    def _worth_giving_back(self) -> int:
        """Return the free pages from which on they go back to the disk: what a disk lacks is kept for alarms."""
        space = self.space
        return max(_WORTH_PAGES, (_SCARCE * space.reserve - space.free) // schema.PAGE_BYTES)


def _probe(transaction: Transaction) -> None:
    transaction.run("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", time.time())


def _free_pages(transaction: Transaction) -> int:
    [(free,)] = transaction.rows("PRAGMA freelist_count")
    return int(free)


def _give_back_bite(transaction: Transaction) -> int:
    transaction.rows(f"PRAGMA incremental_vacuum({_BITE_PAGES})")
    return _free_pages(transaction)


def _is_read_only(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (EROFS, EACCES, EPERM)
    return isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError)
