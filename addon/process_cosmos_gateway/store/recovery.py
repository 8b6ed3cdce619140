"""Getting out of a damaged database what can be read of it, into a new one."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

import apsw
import orjson

from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.private_files import is_there, sync_file, sync_folder

from . import schema, wal
from .errors import StoreDamagedError
from .integrity import key_columns
from .losses import Copied, Count, is_sound, losses, read_counts

_LOGGER = logging.getLogger(__name__)

_UNREADABLE: Final = (apsw.CorruptError, apsw.NotADBError, apsw.IOError, UnicodeDecodeError)
_DAMAGED_KEPT = 2
_TRIES = 100_000
_TRIES_OF_TEXT = 500
"""Unreadable ranges met before the rest of a table's are given up, largest first: some seconds."""
_REPAIRED = ".repaired"
_FAR = 1 << 32
"""Added to a table's last number where nobody knows it any more: a number never comes back."""
_CONSTANTS = {0: b"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20", 44: b"\0\0\0\4", 56: b"\0\0\0\1"}
"""What the header of each of our databases holds (https://sqlite.org/fileformat2.html): 4096-byte pages, WAL, UTF-8."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Rows per table that were kept, and at most how many were lost; ``at``: when.

    ``is_unknown``: more may be lost, because a table cannot be read whose rows nobody counted, or the log is gone
    (``lost["log"]`` 1), or the database. A salvage without losses: its files were deleted, and an open handle had all.
    """

    kept: dict[str, int]
    lost: dict[str, int]
    at: datetime
    is_unknown: bool = False

    def encode(self) -> str:
        """Return it as the store's own facts keep it."""
        return orjson.dumps(
            {"kept": self.kept, "lost": self.lost, "at": self.at, "is_unknown": self.is_unknown}
        ).decode()

    @classmethod
    def decode(cls, text: str) -> Recovered:
        """Return what ``encode`` was given."""
        fields = orjson.loads(text)
        return cls(
            fields["kept"],
            fields["lost"],
            datetime.fromisoformat(fields["at"]),
            is_unknown=fields["is_unknown"],
        )


def recover(
    path: Path, ulid_fn: schema.UlidFn, vfs: str | None, site: Ulid | None, *, without_log: bool = False
) -> Recovered:
    """Put a new database at ``path``, with all rows of the damaged one that can be read and with a new epoch.

    The site stays: its own record's, else ``site``. The damaged files stay beside it as ``….damaged-<ULID>``, those of
    the newest two salvages. Killed at any point, it begins again or is finished by ``finish_recovery``.
    Raises ``apsw.Error`` and ``OSError``.
    """
    epoch = ulid_fn()
    draft = path.with_name(path.name + ".new")
    source = _readable(path, vfs)
    try:
        meta = _read_meta(source)
        own = meta.pop("site", None)
        for of_the_old_one in ("epoch", wal.KEY):
            meta.pop(of_the_old_one, None)
        found = meta.pop("schema", None)
        version = found if isinstance(found, int) else schema.NEWEST
        tables = None if version == schema.NEWEST else _own_schema(source)
        known = Ulid(own) if isinstance(own, str) and is_ulid(own) else site
        schema.create(draft, vfs, {"schema": version, "site": known or ulid_fn(), "epoch": epoch}, tables)
        result = _fill(draft, source, vfs, meta, without_log=without_log)
    finally:
        source.close()
        for copy in path.parent.glob(f"{path.name}{_REPAIRED}*"):
            copy.unlink()
    sync_file(draft)
    draft.replace(path.with_name(f"{path.name}.salvaged-{epoch}"))
    sync_folder(path.parent)
    finish_recovery(path)
    return result


def finish_recovery(path: Path) -> None:
    """Put a salvaged database that is whole in the place of the damaged one."""
    # Not by a pattern: ``Path.glob`` takes a folder that cannot be listed for an empty one.
    files = sorted(path.parent.iterdir())
    for draft in (file for file in files if file.name.startswith(f"{path.name}.salvaged-")):
        epoch = draft.name.rpartition("-")[2]
        for rest in ("-wal", ""):
            damaged = path.with_name(path.name + rest)
            if is_there(damaged):
                damaged.rename(path.with_name(f"{path.name}.damaged-{epoch}{rest}"))
        schema.replace(draft, path)
        _prune(path, epoch)


def _prune(path: Path, newest: str) -> None:
    """Keep the damaged files of the ``newest`` salvage, and of the one before it."""
    damaged = f"{path.name}.damaged-"
    epochs = {file.name.removeprefix(damaged).removesuffix("-wal") for file in path.parent.glob(f"{damaged}*")}
    for epoch in sorted(epochs - {newest}, reverse=True)[_DAMAGED_KEPT - 1 :]:
        for file in path.parent.glob(f"{damaged}{epoch}*"):
            _LOGGER.warning("Removing %s: those of the newest %d salvages stay", file, _DAMAGED_KEPT)
            file.unlink()


def _readable(path: Path, vfs: str | None) -> apsw.Connection:
    """Open the damaged database; where its header is what is damaged, a copy with a mended one."""
    # SQLite would remove the log of an empty file.
    if path.stat().st_size:
        connection = _lenient(path, vfs)
        try:
            if connection.execute("SELECT count(*) FROM sqlite_schema").get:
                return connection
        except apsw.Error as error:
            _LOGGER.warning("The database's schema cannot be read: %s", error)
        connection.close()
    repaired = path.with_name(path.name + _REPAIRED)
    for rest in ("", "-wal"):
        if is_there(damaged := path.with_name(path.name + rest)):
            copyfile(damaged, repaired.with_name(repaired.name + rest))
    with repaired.open("r+b") as copy:
        for offset, constant in _CONSTANTS.items():
            copy.seek(offset)
            copy.write(constant)
    return _lenient(repaired, vfs)


def _lenient(path: Path, vfs: str | None) -> apsw.Connection:
    connection = schema.connect_untouched(path, vfs)
    # Lets SQLite open a file whose tail is missing, or some of whose tables are.
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _read_meta(source: apsw.Connection) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    try:
        # Row by row: what was read before an error counts.
        for row in source.execute("SELECT key, value FROM meta"):
            meta.update([row])
    except (apsw.Error, UnicodeDecodeError) as error:
        _LOGGER.warning("The store's own facts cannot be read: %s", error)
    return meta


def _own_schema(source: apsw.Connection) -> str:
    """Return the SQL of the tables of a database of an older version: migrations follow from there."""
    found = source.execute(
        "SELECT sql FROM sqlite_schema WHERE sql NOTNULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid"
    )
    statements = [sql for (sql,) in found]
    if not statements:
        raise StoreDamagedError("nothing of the database can be read")
    return ";\n".join(statements)


def _fill(
    draft: Path, source: apsw.Connection, vfs: str | None, meta: dict[str, Any], *, without_log: bool
) -> Recovered:
    target = apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)
    copied: dict[str, Copied] = {}
    try:
        target.execute("PRAGMA synchronous = OFF")
        with target:
            rules = list(target.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
            for name, _ in rules:
                target.execute(f'DROP TRIGGER "{name}"')
            sequences = _sequences(source)
            listed = "SELECT name, wr FROM pragma_table_list WHERE type = 'table' AND schema = 'main'"
            tables = [(str(table), bool(without)) for table, without in target.execute(listed)]
            for table, without_rowid in tables:
                if table == "meta" or table.startswith("sqlite_"):
                    continue
                copy = _Copy(source, target, table, sequences.get(table), without_rowid=without_rowid)
                copied[table] = copy.run()
                copied[table].is_whole &= is_sound(source, table)
            _restore_sequences(target, sequences)
            for _, sql in rules:
                target.execute(sql)
            result = _result(copied, read_counts(target), without_log=without_log)
            meta["salvaged"] = result.encode()
            target.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
    finally:
        target.close()
    return result


def _result(copied: Mapping[str, Copied], counts: Sequence[Count], *, without_log: bool) -> Recovered:
    lost, is_unknown = losses(copied, counts)
    kept = {table: copy.kept for table, copy in copied.items()}
    for table, number in kept.items():
        _LOGGER.warning("Salvaged %d rows of %s, lost at most %d", number, table, lost[table])
    if without_log:
        lost[wal.KEY], is_unknown = 1, True
    if is_unknown:
        _LOGGER.warning("More may be lost: something cannot be read of which nobody knows how much it was")
    return Recovered(kept, lost, datetime.now(UTC), is_unknown=is_unknown)


def _sequences(source: apsw.Connection) -> dict[str, int]:
    found: dict[str, int] = {}
    try:
        for row in source.execute("SELECT name, seq FROM sqlite_sequence"):
            if isinstance(row[1], int):
                found.update([row])
    except (apsw.Error, UnicodeDecodeError) as error:
        _LOGGER.warning("The tables' last numbers cannot be read: %s", error)
    return found


def _restore_sequences(target: apsw.Connection, known: dict[str, int]) -> None:
    counted = target.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'")
    for (table,) in counted.fetchall():
        last = target.execute(f'SELECT ifnull(max(rowid), 0) FROM "{table}"').get  # noqa: S608 - a name of the schema
        # Nothing known and nothing there may also mean: nothing ever was.
        number = max(known[table], last) if table in known else last + _FAR
        target.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        target.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number))


class _Copy:
    """Copies one table by ranges of its key's first column, and halves each range that cannot be read."""

    def __init__(
        self, source: apsw.Connection, target: apsw.Connection, table: str, last: int | None, *, without_rowid: bool
    ) -> None:
        self._copied = Copied()
        self._source = source
        self._target = target
        self._last = last
        key = key_columns(target, table) if without_rowid else ["rowid"]
        self._first = key[0]
        columns = _common_columns(source, target, table)
        names = ", ".join(columns)
        # The names are those of our own schema.
        self._select = f'SELECT {self._first}, {names} FROM "{table}" NOT INDEXED'  # noqa: S608
        self._orders = [", ".join(f"{column} {way}" for column in key) for way in ("ASC", "DESC")]
        self._insert = f'INSERT OR REPLACE INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})'  # noqa: S608
        self._table = table
        self._columns = columns
        # A row a number: the next range begins one further. Other keys may have many rows.
        self._step = 0 if without_rowid else 1

    def run(self) -> Copied:
        """Copy all that can be read; return what became of it."""
        if self._columns:
            self._copy()
        else:
            self._copied.lost += 1
            self._copied.is_whole = False
        # Ranges overlap, and a new database has rows of its own.
        self._copied.kept = int(self._target.execute(f'SELECT count(*) FROM "{self._table}"').get)  # noqa: S608 - as below
        return self._copied

    def _copy(self) -> None:
        low, whole = self._read("", (), 0)
        if whole:
            return
        self._copied.is_whole = False
        high, _ = self._read("", (), 1)
        if self._step:
            self._copied.highest = max(self._last, high or 0) if self._last is not None else high
            self._halve(1 if low is None else low + 1, (self._last or 0) if high is None else high - 1)
        elif low is None or high is None:
            self._copied.lost += 1
        else:
            self._halve(low, high)

    def _halve(self, low: Any, high: Any) -> None:  # noqa: ANN401 - keys of one kind
        """Try the halves of what is not read yet, the largest first."""
        waiting = deque([(low, high)])
        tries = _TRIES if self._step else _TRIES_OF_TEXT
        while waiting and tries > 0:
            low, high = waiting.popleft()
            middle = _between(low, high, self._step)
            if middle is None:
                self._copied.lost += 1
                continue
            for start, end in ((low, middle), (middle + self._step if self._step else middle, high)):
                first, whole = self._read(f"WHERE {self._first} BETWEEN ? AND ?", (start, end), 0)
                if whole:
                    continue
                tries -= 1
                last, _ = self._read(f"WHERE {self._first} BETWEEN ? AND ?", (start, end), 1)
                rest = (
                    start if first is None else first + 1 if self._step else first,
                    end if last is None else last - 1 if self._step else last,
                )
                if rest[0] < rest[1] or (self._step and rest[0] == rest[1]):
                    waiting.append(rest)
        # Whoever gave up says so: these ranges may hold readable rows.
        self._copied.lost += sum(high - low + 1 if self._step else 1 for low, high in waiting)

    def _read(self, where: str, bounds: Sequence[Any], way: int) -> tuple[Any, bool]:
        """Copy in one direction up to what cannot be read; return the last key read, and whether that was all."""
        key = None
        try:
            for row in self._source.execute(f"{self._select} {where} ORDER BY {self._orders[way]}", bounds):
                key = row[0]
                self._keep(row[1:])
        except _UNREADABLE:
            return key, False
        return key, True

    def _keep(self, row: Sequence[Any]) -> None:
        try:
            self._target.execute(self._insert, row)
        except apsw.ConstraintError:
            # A value of another type than its column takes: no row of ours.
            self._copied.lost += 1


def _common_columns(source: apsw.Connection, target: apsw.Connection, table: str) -> list[str]:
    try:
        there = {name for (name,) in source.execute("SELECT name FROM pragma_table_info(?)", (table,))}
    except apsw.Error:
        return []
    here = target.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return [f'"{name}"' for (name,) in here if name in there]


def _between(low: Any, high: Any, step: int) -> Any:  # noqa: ANN401 - keys of one kind
    """Return a key in the middle, or None where there is none; text in the order of its code points."""
    if isinstance(low, int):
        middle = (low + high) // 2
        return middle if middle > low or (step and low < high) else None
    size = max(len(low), len(high))
    numbers = [int.from_bytes(key.encode("latin-1", "replace").ljust(size, b"\0")) for key in (low, high)]
    middle = (sum(numbers) // 2).to_bytes(size).decode("latin-1")
    return middle if low < middle < high else None
