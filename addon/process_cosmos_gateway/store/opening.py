"""Prepares the database before the store's threads start: creates, adopts, checks, recovers and migrates it."""

import logging
from collections.abc import Sequence
from contextlib import closing, suppress
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
_LOG_LOST = "its write-ahead log is missing, and with it the newest commits"
_SITE = "site"
_SUSPECT = "gateway.sqlite.suspect"


def prepare(path: Path, ulid_fn: schema.UlidFn, vfs: str | None, migrations: Sequence[str] = schema.MIGRATIONS) -> None:
    """Create the database at ``path`` if there is none, else recover it if it is damaged and migrate it.

    Takes constant time whatever the size of the database, except for a recovery or a migration. Raises ``apsw.Error``,
    ``OSError``, and ``SchemaTooNewError`` without a change to the database or to the backup to be adopted.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    finish_recovery(path)
    suspect = suspect_marker(path)
    if not is_there(path) and is_there(rescued := draft_beside(path)):
        # The process was killed while it saved a deleted database: recover what it had written by then.
        rescued.rename(path)
        suspect.touch(mode=0o600)
    draft_beside(path).unlink(missing_ok=True)
    # Before anything is adopted, recovered or migrated: a newer database must stay usable for the newer app.
    schema.refuse_newer(path if is_there(path) else backup.copy_beside(path), vfs, 1 + len(migrations))
    if not is_there(path) and not backup.adopt(path, ulid_fn, vfs):
        _create_fresh(path, ulid_fn, vfs, 1 + len(migrations))
    without_log = wal.is_lost(path, vfs)
    reason = _LOG_LOST if without_log else "a page could not be read" if is_there(suspect) else find_damage(path, vfs)
    if reason is not None:
        _LOGGER.error(
            "%s is damaged (%s). Copying the readable rows into a new database; the damaged files are kept beside it",
            path,
            reason,
        )
        recover(path, ulid_fn, vfs, _known_site(path), without_log=without_log)
    # Only now: after a kill during the recovery the marker must still request it.
    suspect.unlink(missing_ok=True)
    try:
        schema.migrate(path, vfs, migrations)
    except StoreDamagedError:
        suspect.touch(mode=0o600)
        raise
    if reason is not None:
        _recount(path, vfs)
    _remember_site(path, vfs)


def _create_fresh(path: Path, ulid_fn: schema.UlidFn, vfs: str | None, version: int) -> None:
    """Create the first database of a site, or an empty one for a known site whose database is missing."""
    facts: dict[str, int | str] = {"schema": version, "epoch": ulid_fn()}
    site = _known_site(path)
    if site is not None:
        _LOGGER.error(
            "%s: %s is missing, although this site had a database. Its content is lost; beginning with an empty one",
            CODE,
            path,
        )
        facts["recovered"] = Recovered({}, {}, datetime.now(UTC), is_unknown=True).encode()
    # SQLite must not apply the log of the missing database to the new one; it is kept for inspection.
    if is_there(rest := path.with_name(f"{path.name}-wal")) and rest.stat().st_size:
        rest.rename(path.with_name(f"{path.name}.damaged-{facts['epoch']}-wal"))
    fresh = path.with_name(path.name + ".new")
    schema.create(fresh, vfs, {**facts, "site": site or ulid_fn()})
    schema.replace(fresh, path)


def suspect_marker(path: Path) -> Path:
    """Return the path of the file whose existence requests a recovery at the next open."""
    return path.with_name(_SUSPECT)


def _recount(path: Path, vfs: str | None) -> None:
    with closing(schema.connect(path, vfs, read_only=False)) as connection, connection:
        connection.execute(schema.SCHEMA.with_name("recount.sql").read_text("utf-8"))


def _known_site(path: Path) -> Ulid | None:
    with suppress(FileNotFoundError, ValueError):
        if is_ulid(site := path.with_name(_SITE).read_text("ascii").strip()):
            return Ulid(site)
    return None


def _remember_site(path: Path, vfs: str | None) -> None:
    if _known_site(path) is None:
        with closing(schema.connect(path, vfs, read_only=True)) as connection:
            site = connection.execute("SELECT value FROM meta WHERE key = 'site'").get
        write_private(path.with_name(_SITE), f"{site}\n".encode())
