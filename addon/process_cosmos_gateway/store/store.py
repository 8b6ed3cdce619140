"""The store: what it has accepted survives a power cut."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import apsw

from process_cosmos_gateway.contract.identifiers import Ulid
from process_cosmos_gateway.errors import StoreError

from . import schema
from .lane import Lane
from .transaction import Transaction

FILE = "gateway.sqlite"


class Store:
    """One SQLite database: one thread writes, one reads. Made by ``Store.open``.

    ``site``: who this gateway is, for ever. ``epoch``: new when the database is new or came out of a backup.
    """

    def __init__(self, site: Ulid, epoch: Ulid, writer: Lane, reader: Lane) -> None:
        """Keep what ``open`` has made."""
        self.site = site
        self.epoch = epoch
        self._writer = writer
        self._reader = reader

    @classmethod
    async def open(cls, folder: Path, ulid_fn: Callable[[], Ulid], *, vfs: str | None = None) -> Self:
        """Open the store in ``folder``, or make it; nothing is scanned.

        Raises ``StoreError``; ``SchemaTooNewError`` and ``StoreDamagedError`` leave the database as it is.
        """
        path = folder / FILE
        try:
            await asyncio.to_thread(schema.prepare, path, ulid_fn, vfs)
        except (apsw.Error, OSError) as error:
            raise StoreError(f"the store in {folder} cannot be opened: {error}") from error
        connect_fn = partial(schema.connect, path, vfs)
        writer = Lane("store writer", partial(connect_fn, read_only=False), "BEGIN IMMEDIATE")
        reader = Lane("store reader", partial(connect_fn, read_only=True), "BEGIN")
        try:
            meta = dict(await reader.do(lambda transaction: transaction.rows("SELECT key, value FROM meta")))
        except StoreError:
            await reader.close()
            await writer.close()
            raise
        return cls(Ulid(meta["site"]), Ulid(meta["epoch"]), writer, reader)

    async def write[T](self, change: Callable[[Transaction], T]) -> T:
        """Run ``change`` in the writer's thread; return its value once it survives a power cut.

        All changes that wait share one transaction. An exception of ``change`` undoes it alone and is raised here;
        ``StoreError``: nothing of it is on disk.
        """
        value: T = await self._writer.do(change)
        return value

    async def read[T](self, question: Callable[[Transaction], T]) -> T:
        """Run ``question`` on one consistent state of what is committed; raise ``StoreError`` if it cannot be read."""
        value: T = await self._reader.do(question)
        return value

    async def close(self) -> None:
        """Write what waits, then let go of the database."""
        await self._reader.close()
        await self._writer.close()
