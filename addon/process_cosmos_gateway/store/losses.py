"""Computes how many rows a recovery has lost: an upper bound per table, or the statement that there is none."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from re import compile as pattern

import apsw

COUNTED = Path(__file__).with_name("counted.sql")

_TREE = pattern(r"Tree (\d+) ")


@dataclass(slots=True)
class Copied:
    """The result of copying one table. ``lost``: unreadable ranges and rows, which is no bound by itself.

    ``is_whole``: every row was read. ``highest``: no row had a greater number; None: unknown.
    """

    kept: int = 0
    lost: int = 0
    is_whole: bool = True
    highest: int | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """A row count of ``table`` taken from the table ``basis`` (None: a constant); not ``is_exact``: an upper bound."""

    table: str
    rows: int
    is_exact: bool
    basis: str | None


def compute_losses(copied: Mapping[str, Copied], counts: Iterable[Count]) -> tuple[dict[str, int], bool]:
    """Return the upper bound of lost rows per table, and whether there is a table without such a bound.

    A count is trusted if its own table was read completely and it is not less than the rows kept. An exact count
    overrides the errors met while copying, because a page that lost cells can be read without an error.
    """
    known = {
        count.table: count
        for count in counts
        if count.basis is None or (count.basis in copied and copied[count.basis].is_whole)
    }
    lost: dict[str, int] = {}
    is_unknown = False
    for table, copy in copied.items():
        count = known.get(table)
        most = [copy.highest] if copy.highest is not None else []
        if count is not None and count.rows >= copy.kept:
            if count.is_exact:
                lost[table] = count.rows - copy.kept
                continue
            most.append(count.rows)
        if copy.is_whole:
            lost[table] = copy.lost
        elif most:
            lost[table] = max(0, min(most) - copy.kept)
        else:
            lost[table], is_unknown = copy.lost, True
    return lost, is_unknown


def read_counts(connection: apsw.Connection) -> list[Count]:
    """Return the row counts that the copied tables hold about each other; empty if they are of another schema."""
    try:
        rows = connection.execute(COUNTED.read_text("utf-8")).fetchall()
    except apsw.SQLError:
        return []
    return [
        Count(str(table), int(str(number)), bool(exact), None if basis is None else str(basis))
        for table, number, exact, basis in rows
    ]


def is_sound(connection: apsw.Connection, table: str) -> bool:
    """Return whether the pages of ``table`` itself are undamaged; its indexes may be damaged."""
    try:
        indexes = {
            int(root)
            for (root,) in connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?", (table,)
            )
        }
        found = [str(text) for (text,) in connection.execute(f"PRAGMA quick_check('{table}')")]
    except apsw.Error:
        return False
    return found == ["ok"] or all(_is_about(text, indexes) for text in found)


def _is_about(text: str, trees: set[int]) -> bool:
    numbers = {int(number) for number in _TREE.findall(text)}
    return bool(numbers) and numbers <= trees
