"""Copies the readable rows of a damaged database into a new one."""

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from shutil import copyfile
from typing import Any, Final

import apsw
import orjson

from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.private_files import is_there, move_durably

from . import schema, wal
from .errors import StoreDamagedError
from .integrity import key_columns
from .losses import Copied, Count, compute_losses, is_sound, read_counts

_LOGGER = logging.getLogger(__name__)

_UNREADABLE: Final = (apsw.CorruptError, apsw.NotADBError, apsw.IOError, UnicodeDecodeError)
_DAMAGED_KEPT = 2
_TRIES = 100_000
_TRIES_OF_TEXT = 500
"""Unreadable ranges per table (integer keys, text keys) after which the rest is given up: some seconds."""
_REPAIRED = ".repaired"
_UNKNOWN_GAP = 1 << 32
"""Added to the highest rowid found where the last AUTOINCREMENT number is lost, so that no number is reused."""
_CONSTANTS = {0: b"SQLite format 3\0\x10\x00\x02\x02\x00\x40\x20\x20", 44: b"\0\0\0\4", 56: b"\0\0\0\1"}
"""Header bytes by offset (https://sqlite.org/fileformat2.html): pages of 4096 bytes, WAL, UTF-8."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """Rows kept per table, and the upper bound of those lost; ``at``: when.

    ``is_unknown``: more may be lost, because a table without a row count cannot be read, or the log is missing
    (``lost["log"]`` is 1), or the database. Nothing is lost if the files were deleted and an open handle still had all.
    """

    kept: Mapping[str, int]
    lost: Mapping[str, int]
    at: datetime
    is_unknown: bool = False

    def encode(self) -> str:
        """Return the text stored under ``recovered`` in ``meta``, which the contract's codec parses."""
        return orjson.dumps(self).decode()


def recover(
    path: Path, ulid_fn: schema.UlidFn, vfs: str | None, site: Ulid | None, *, without_log: bool = False
) -> Recovered:
    """Replace the database at ``path`` by a new one with all readable rows and a new epoch.

    The site is the one stored in the database, else ``site``. The damaged files are kept as ``….damaged-<ULID>``, those
    of the newest two recoveries. After a kill the recovery begins again, or ``finish_recovery`` completes it.
    Raises ``apsw.Error`` and ``OSError``.
    """
    epoch = ulid_fn()
    draft = path.with_name(path.name + ".new")
    try:
        with closing(_open_readable(path, vfs)) as source:
            meta = _read_meta(source)
            own = meta.pop("site", None)
            for key in ("epoch", wal.KEY):
                meta.pop(key, None)
            found = meta.pop("schema", None)
            version = found if isinstance(found, int) else schema.NEWEST
            tables = None if version == schema.NEWEST else _read_schema(source)
            known = Ulid(own) if isinstance(own, str) and is_ulid(own) else site
            schema.create(draft, vfs, {"schema": version, "site": known or ulid_fn(), "epoch": epoch}, tables)
            result = _fill(draft, source, vfs, meta, without_log=without_log)
    finally:
        for copy in path.parent.glob(f"{path.name}{_REPAIRED}*"):
            copy.unlink()
    move_durably(draft, path.with_name(f"{path.name}.recovered-{epoch}"))
    finish_recovery(path)
    return result


def finish_recovery(path: Path) -> None:
    """Replace the damaged database by a completely recovered one, if there is such a file."""
    # Not by a pattern: ``Path.glob`` treats a folder that cannot be listed as an empty one.
    files = sorted(path.parent.iterdir())
    for draft in (file for file in files if file.name.startswith(f"{path.name}.recovered-")):
        epoch = draft.name.rpartition("-")[2]
        for rest in ("-wal", ""):
            damaged = path.with_name(path.name + rest)
            if is_there(damaged):
                damaged.rename(path.with_name(f"{path.name}.damaged-{epoch}{rest}"))
        schema.replace(draft, path)
        _prune(path, epoch)


def _prune(path: Path, newest: str) -> None:
    """Delete damaged files except those of the ``newest`` recovery and of the one before it."""
    damaged = f"{path.name}.damaged-"
    epochs = {file.name.removeprefix(damaged).removesuffix("-wal") for file in path.parent.glob(f"{damaged}*")}
    for epoch in sorted(epochs - {newest}, reverse=True)[_DAMAGED_KEPT - 1 :]:
        for file in path.parent.glob(f"{damaged}{epoch}*"):
            _LOGGER.warning(
                "Removing %s: only the damaged files of the newest %d recoveries are kept", file, _DAMAGED_KEPT
            )
            file.unlink()


def _open_readable(path: Path, vfs: str | None) -> apsw.Connection:
    """Open the damaged database; if its header is damaged, open a copy with a repaired header."""
    # SQLite would delete the log of an empty file.
    if path.stat().st_size:
        connection = _open_lenient(path, vfs)
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
    return _open_lenient(repaired, vfs)


def _open_lenient(path: Path, vfs: str | None) -> apsw.Connection:
    connection = schema.connect_untouched(path, vfs)
    # Lets SQLite open a truncated file, or one whose schema has damaged entries.
    connection.execute("PRAGMA writable_schema = ON")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA query_only = ON")
    return connection


def _read_meta(source: apsw.Connection) -> dict[str, Any]:
    meta: dict[str, Any] = {}
    try:
        # Row by row, to keep the rows read before an error.
        for row in source.execute("SELECT key, value FROM meta"):
            meta.update([row])
    except (apsw.Error, UnicodeDecodeError) as error:
        _LOGGER.warning("The table meta cannot be read completely: %s", error)
    return meta


def _read_schema(source: apsw.Connection) -> str:
    """Return the SQL of the tables of an older schema version; the recovered database is migrated afterwards."""
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
    copied: dict[str, Copied] = {}
    with closing(apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs)) as target:
        # The draft is synced as a whole before it gets a name that counts.
        target.execute("PRAGMA synchronous = OFF")
        with target:
            rules = list(target.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'"))
            for name, _ in rules:
                target.execute(f'DROP TRIGGER "{name}"')
            sequences = _read_sequences(source)
            listed = "SELECT name, wr FROM pragma_table_list WHERE type = 'table' AND schema = 'main'"
            tables = [(str(table), bool(without)) for table, without in target.execute(listed)]
            for table, without_rowid in tables:
                if table == "meta" or table.startswith("sqlite_"):
                    continue
                copy = _TableCopy(source, target, table, sequences.get(table), without_rowid=without_rowid)
                copied[table] = copy.run()
                copied[table].is_whole &= is_sound(source, table)
            _restore_sequences(target, sequences)
            for _, sql in rules:
                target.execute(sql)
            result = _result(copied, read_counts(target), without_log=without_log)
            meta["recovered"] = result.encode()
            target.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(meta.items()))
    return result


def _result(copied: Mapping[str, Copied], counts: Sequence[Count], *, without_log: bool) -> Recovered:
    lost, is_unknown = compute_losses(copied, counts)
    kept = {table: copy.kept for table, copy in copied.items()}
    for table, number in kept.items():
        _LOGGER.warning("Recovered %d rows of %s, lost at most %d", number, table, lost[table])
    if without_log:
        lost[wal.KEY], is_unknown = 1, True
    if is_unknown:
        _LOGGER.warning("More may be lost: at least one unreadable part has no known size")
    return Recovered(kept, lost, datetime.now(UTC), is_unknown=is_unknown)


def _read_sequences(source: apsw.Connection) -> dict[str, int]:
    found: dict[str, int] = {}
    try:
        for row in source.execute("SELECT name, seq FROM sqlite_sequence"):
            if isinstance(row[1], int):
                found.update([row])
    except (apsw.Error, UnicodeDecodeError) as error:
        _LOGGER.warning("The last AUTOINCREMENT numbers cannot be read completely: %s", error)
    return found


def _restore_sequences(target: apsw.Connection, known: dict[str, int]) -> None:
    counted = target.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'")
    for (table,) in counted.fetchall():
        last = target.execute(f'SELECT ifnull(max(rowid), 0) FROM "{table}"').get  # noqa: S608 - a name of the schema
        # A table without rows and without a known number may also never have had one.
        number = max(known[table], last) if table in known else last + _UNKNOWN_GAP
        target.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        target.execute("INSERT INTO sqlite_sequence VALUES (?, ?)", (table, number))


class _TableCopy:
    """Copies one table by ranges of the first key column, and bisects each unreadable range."""

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
        # A rowid has one row, so the next range begins at the following number. Other first columns may have many rows.
        self._step = 0 if without_rowid else 1

    def run(self) -> Copied:
        """Copy all readable rows; return the result."""
        if self._columns:
            self._copy()
        else:
            self._copied.lost += 1
            self._copied.is_whole = False
        # Counted in the target, because ranges overlap and a new database already has some rows.
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
        """Bisect the range that is not read yet, the largest parts first."""
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
        # Count the ranges that were given up, although they may hold readable rows.
        self._copied.lost += sum(high - low + 1 if self._step else 1 for low, high in waiting)

    def _read(self, where: str, bounds: Sequence[Any], way: int) -> tuple[Any, bool]:
        """Copy rows in one direction up to the first unreadable one; return the last key, and whether all were read."""
        key = None
        try:
            for row in self._source.execute(f"{self._select} {where} ORDER BY {self._orders[way]}", bounds):
                key = row[0]
                self._insert_row(row[1:])
        except _UNREADABLE:
            return key, False
        return key, True

    def _insert_row(self, row: Sequence[Any]) -> None:
        try:
            self._target.execute(self._insert, row)
        except apsw.ConstraintError:
            # A value of the wrong type for its column: the row is damaged.
            self._copied.lost += 1


def _common_columns(source: apsw.Connection, target: apsw.Connection, table: str) -> list[str]:
    try:
        there = {name for (name,) in source.execute("SELECT name FROM pragma_table_info(?)", (table,))}
    except apsw.Error:
        return []
    here = target.execute("SELECT name FROM pragma_table_info(?)", (table,))
    return [f'"{name}"' for (name,) in here if name in there]


def _between(low: Any, high: Any, step: int) -> Any:  # noqa: ANN401 - keys of one kind
    """Return a key between the two, or None if there is none; text is ordered by code points."""
    if isinstance(low, int):
        middle = (low + high) // 2
        return middle if middle > low or (step and low < high) else None
    size = max(len(low), len(high))
    numbers = [int.from_bytes(key.encode("latin-1", "replace").ljust(size, b"\0")) for key in (low, high)]
    middle = (sum(numbers) // 2).to_bytes(size).decode("latin-1")
    return middle if low < middle < high else None
