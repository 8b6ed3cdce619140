"""What is done before the store's threads begin: a database is made, adopted, checked, salvaged, migrated."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from process_cosmos_gateway.contract.identifiers import Ulid, is_ulid
from process_cosmos_gateway.private_files import is_there, write_private

from . import backup, schema, wal
from .deleted_files import draft_beside
from .errors import StoreDamagedError
from .file_watch import CODE
from .integrity import find_damage
from .recovery import Recovered, finish_recovery, recover

_LOGGER = logging.getLogger(__name__)
_LOG_LOST = "its log is gone, with what was written last"
_SITE = "site"
_SUSPECT = "gateway.sqlite.suspect"


def prepare(path: Path, ulid_fn: schema.UlidFn, vfs: str | None, migrations: Sequence[str] = schema.MIGRATIONS) -> None:
    """Make the database at ``path`` if there is none, else bring it to the newest version; salvage a damaged one.

    It takes the same time whatever the database's size, but for a salvage. Raises ``SchemaTooNewError`` without a
    change to the database, or to the backup it would have begun with; ``apsw.Error`` and ``OSError``.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    finish_recovery(path)
    suspect = suspect_marker(path)
    if not is_there(path) and is_there(rescued := draft_beside(path)):
        # Killed while the last handle was read: what had been written by then is better than nothing.
        rescued.rename(path)
        suspect.touch(mode=0o600)
    draft_beside(path).unlink(missing_ok=True)
    schema.refuse_newer(path if is_there(path) else backup.copy_beside(path), vfs, 1 + len(migrations))
    if not is_there(path) and not backup.adopt(path, ulid_fn, vfs):
        _begin(path, ulid_fn, vfs, 1 + len(migrations))
    without_log = wal.is_lost(path, vfs)
    reason = _LOG_LOST if without_log else "a page could not be read" if is_there(suspect) else find_damage(path, vfs)
    if reason is not None:
        _LOGGER.error("%s is damaged (%s): what can be read goes into a new database", path, reason)
        recover(path, ulid_fn, vfs, _known_site(path), without_log=without_log)
    suspect.unlink(missing_ok=True)
    try:
        schema.migrate(path, vfs, migrations)
    except StoreDamagedError:
        suspect.touch(mode=0o600)
        raise
    if reason is not None:
        _recount(path, vfs)
    _remember_site(path, vfs)


def _begin(path: Path, ulid_fn: schema.UlidFn, vfs: str | None, version: int) -> None:
    """Make the first database of a site, or the next one of a site whose database is gone, which is said."""
    facts: dict[str, int | str] = {"schema": version, "epoch": ulid_fn()}
    site = _known_site(path)
    if site is not None:
        _LOGGER.error("%s: %s is not there, although this site had one: all that it held is lost", CODE, path)
        facts["salvaged"] = Recovered({}, {}, datetime.now(UTC), is_unknown=True).encode()
    if is_there(rest := path.with_name(f"{path.name}-wal")) and rest.stat().st_size:
        rest.rename(path.with_name(f"{path.name}.damaged-{facts['epoch']}-wal"))
    fresh = path.with_name(path.name + ".new")
    schema.create(fresh, vfs, {**facts, "site": site or ulid_fn()})
    schema.replace(fresh, path)


def suspect_marker(path: Path) -> Path:
    """Return the file that says: salvage this database at the next open."""
    return path.with_name(_SUSPECT)


def _recount(path: Path, vfs: str | None) -> None:
    connection = schema.connect(path, vfs, read_only=False)
    try:
        with connection:
            connection.execute(schema.SCHEMA.with_name("recount.sql").read_text("utf-8"))
    finally:
        connection.close()


def _known_site(path: Path) -> Ulid | None:
    with suppress(FileNotFoundError, ValueError):
        if is_ulid(site := path.with_name(_SITE).read_text("ascii").strip()):
            return Ulid(site)
    return None


def _remember_site(path: Path, vfs: str | None) -> None:
    file = path.with_name(_SITE)
    if _known_site(path) is None:
        connection = schema.connect(path, vfs, read_only=True)
        try:
            site = connection.execute("SELECT value FROM meta WHERE key = 'site'").get
        finally:
            connection.close()
        write_private(file, f"{site}\n".encode())
