"""Checks a database for damage in constant time, whatever its size."""

from contextlib import closing
from pathlib import Path

import apsw

from process_cosmos_gateway.contract.identifiers import is_ulid

from . import schema
from .errors import StoreDamagedError
from .health import is_damage


def find_damage(path: Path, vfs: str | None) -> str | None:
    """Read schema, site, epoch, and each table's first and last row; return what is wrong, or None.

    Damage elsewhere is found when a page is read, or by the checksum of a row.
    """
    if not path.stat().st_size:
        # A new database appears complete, by a rename. SQLite would treat an empty file as a new database with no site.
        return "it is empty"
    try:
        with closing(schema.connect_untouched(path, vfs)) as connection:
            schema.version(connection)
            for key in ("site", "epoch"):
                if not is_ulid(str(connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).get)):
                    return f"its {key} is unknown"
            listed = "SELECT name, wr FROM pragma_table_list WHERE type = 'table'"
            for table, without_rowid in connection.execute(listed):
                _read_ends(connection, table, key_columns(connection, table) if without_rowid else ["rowid"])
    except (apsw.SQLError, StoreDamagedError, UnicodeDecodeError) as error:
        return str(error)
    except apsw.Error as error:
        if is_damage(error):
            return "it is truncated" if isinstance(error, apsw.IOError) else str(error)
        raise
    return None


def key_columns(connection: apsw.Connection, table: str) -> list[str]:
    """Return the quoted names of the primary key's columns, in key order."""
    found = connection.execute("SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", (table,))
    return [f'"{name}"' for (name,) in found]


def _read_ends(connection: apsw.Connection, table: str, key: list[str]) -> None:
    for direction in ("ASC", "DESC"):
        order = ", ".join(f"{column} {direction}" for column in key)
        # NOT INDEXED, so that the order comes from the table's own pages.
        connection.execute(f'SELECT * FROM "{table}" NOT INDEXED ORDER BY {order} LIMIT 1').fetchall()  # noqa: S608 - names of the schema
