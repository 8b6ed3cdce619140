"""The outbox's SQL for encoded events, once per priority: each has a table of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from process_cosmos_gateway.contract.destinations import Priority

_WANTED = """(only_for = :destination OR only_for IS NULL AND kind IN (
  SELECT kind FROM outbox_kind AS wanted WHERE wanted.destination = :destination))"""

_SKIPPED = """sequence IN (
  SELECT sequence FROM outbox_skip WHERE destination = :destination AND priority = '<priority>')"""

_NEEDLESS = """NOT EXISTS (
  SELECT 1 FROM outbox_cursor AS cursor
  WHERE cursor.priority = '<priority>'
    AND (queue.only_for = cursor.destination OR queue.only_for IS NULL AND EXISTS (
      SELECT 1 FROM outbox_kind AS wanted WHERE wanted.kind = queue.kind AND wanted.destination = cursor.destination))
    AND NOT EXISTS (
      SELECT 1 FROM outbox_skip AS skip
      WHERE skip.destination = cursor.destination AND skip.priority = '<priority>' AND skip.sequence = queue.sequence)
    AND (queue.sequence > cursor.sequence OR EXISTS (
      SELECT 1 FROM outbox_exception AS behind
      WHERE behind.destination = cursor.destination AND behind.priority = '<priority>'
        AND behind.sequence = queue.sequence)))"""

_PENDING = """(
  sequence > (SELECT sequence FROM outbox_cursor WHERE destination = :destination AND priority = '<priority>')
    AND <wanted> AND NOT <skipped>
  OR sequence IN (
    SELECT sequence FROM outbox_exception WHERE destination = :destination AND priority = '<priority>'))"""

_UNTRIED = """FROM (
  SELECT sequence FROM outbox_exception
  WHERE destination = :destination AND priority = '<priority>' AND failures = 0
    AND sequence >= :begin AND sequence < :end
  UNION ALL
  SELECT sequence FROM outbox_<priority> AS queue
  WHERE sequence >= max(:begin, :cursor + 1) AND sequence < :end AND <wanted> AND NOT <skipped>
) CROSS JOIN outbox_<priority> USING (sequence)"""


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of one priority.

    ``<priority>`` stands for its name, ``<wanted>`` for: the destination wants it, ``<pending>`` for: it waits for it,
    ``<untried>`` for: those it waits for from ``:begin`` to before ``:end`` that have not failed,
    ``<skipped>`` for: it is not for it any more, ``<needless>`` for: nobody waits for it.
    """

    insert: str = """
INSERT INTO outbox_<priority>
  (id, type, kind, subject, key, only_for, slot, replayed, accepted_at, expires_at, checksum, body) VALUES """

    go_past: str = """
UPDATE outbox_cursor SET sequence = :last
WHERE priority = '<priority>' AND sequence = :before AND destination = :destination"""

    cursor: str = "SELECT sequence FROM outbox_cursor WHERE destination = ? AND priority = '<priority>'"

    begin_at_end: str = """
INSERT INTO outbox_cursor VALUES
  (?, '<priority>', ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0))"""

    begin_at_start: str = "INSERT OR IGNORE INTO outbox_cursor VALUES (?, '<priority>', 0)"

    failed: str = """
SELECT sequence, key, failures, id, type, subject, body, replayed, expires_at, checksum
FROM outbox_exception JOIN outbox_<priority> USING (sequence)
WHERE destination = :destination AND priority = '<priority>' AND failures > 0
  AND key NOT IN (SELECT value FROM json_each(:busy))
ORDER BY sequence LIMIT :limit"""

    ahead: str = """
SELECT sequence, key, 0, id, type, subject, body, replayed, expires_at, checksum FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND <wanted> AND NOT <skipped> ORDER BY sequence LIMIT :limit"""

    bounds: str = """
SELECT
  (SELECT min(sequence) FROM outbox_exception WHERE destination = ? AND priority = '<priority>'),
  ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0)"""

    unblocked: str = """
SELECT sequence, key, 0, id, type, subject, body, replayed, expires_at, checksum <untried>
WHERE key NOT IN (SELECT value FROM json_each(:blocked)) ORDER BY sequence LIMIT :limit"""

    keys: str = "SELECT DISTINCT key <untried>"

    oldest: str = "SELECT accepted_at FROM outbox_<priority> ORDER BY sequence LIMIT 1"

    next: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND <wanted> AND NOT <skipped> ORDER BY sequence LIMIT :limit"""

    pending: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue
WHERE sequence IN (SELECT value FROM json_each(:sequences)) AND <pending>"""

    pending_in_all: str = """
SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox_<priority> AS queue WHERE <pending>"""

    first_pending: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue WHERE <pending> ORDER BY sequence LIMIT :limit"""

    leave_behind: str = """
INSERT OR IGNORE INTO outbox_exception (destination, priority, sequence, delivered_then)
SELECT :destination, '<priority>', sequence, :delivered FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND sequence <= :reached AND <wanted> AND NOT <skipped>
  AND sequence NOT IN (SELECT value FROM json_each(:settled))"""

    advance: str = """
UPDATE outbox_cursor SET sequence = max(sequence, :reached, coalesce(
  (SELECT sequence - 1 FROM outbox_<priority> AS queue
   WHERE sequence > max(:reached, outbox_cursor.sequence) AND <wanted> ORDER BY sequence LIMIT 1),
  (SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0))
WHERE destination = :destination AND priority = '<priority>'"""

    skip: str = """
INSERT OR IGNORE INTO outbox_skip
SELECT :destination, '<priority>', sequence FROM outbox_<priority>
WHERE sequence IN (SELECT value FROM json_each(:sequences))
  AND sequence > (SELECT sequence FROM outbox_cursor WHERE destination = :destination AND priority = '<priority>')"""

    forget_skips: str = """
DELETE FROM outbox_skip WHERE destination = :destination AND priority = '<priority>' AND sequence <= (
  SELECT sequence FROM outbox_cursor WHERE destination = :destination AND priority = '<priority>')"""

    drop_marks: str = """
DELETE FROM outbox_<mark>
WHERE destination IN (SELECT name FROM outbox_destination) AND priority = '<priority>' AND sequence = ?"""

    has_exceptions: str = """
SELECT 1 FROM outbox_exception WHERE destination = ? AND priority = '<priority>' LIMIT 1"""

    settle_exceptions: str = """
DELETE FROM outbox_exception
WHERE destination = ? AND priority = '<priority>' AND sequence IN (SELECT value FROM json_each(?))"""

    fail: str = """
UPDATE outbox_exception
SET failures = failures + 1, strikes = strikes + (:delivered > delivered_then), delivered_then = :delivered
WHERE destination = :destination AND priority = '<priority>' AND sequence = :sequence RETURNING strikes"""

    reject: str = """
INSERT INTO outbox_rejected
  (destination, priority, code, message, reply, attempts, rejected_at, id, type, kind, subject, key, body)
SELECT ?, '<priority>', ?, ?, ?, ?, ?, id, type, kind, subject, key, body FROM outbox_<priority> WHERE sequence = ?"""

    clean_below: str = """
DELETE FROM outbox_<priority> WHERE sequence <= min(
  (SELECT min(sequence) FROM outbox_cursor WHERE priority = '<priority>'),
  coalesce((SELECT min(sequence) - 1 FROM outbox_exception WHERE priority = '<priority>'), 9e18))"""

    clean: str = """
DELETE FROM outbox_<priority> AS queue
WHERE sequence IN (SELECT value FROM json_each(?)) AND <needless> RETURNING sequence"""

    clean_all: str = "DELETE FROM outbox_<priority> AS queue WHERE <needless>"

    withdraw: str = "DELETE FROM outbox_<priority> WHERE id = ? AND only_for = ? RETURNING sequence, length(body)"

    older_of_slot: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue
WHERE slot = :slot AND sequence < (SELECT max(sequence) FROM outbox_<priority> WHERE slot = :slot) AND <pending>
ORDER BY sequence"""

    superseded: str = """
SELECT sequence, size FROM (
  SELECT sequence, slot, length(body) AS size FROM outbox_<priority> AS queue
  WHERE <pending> ORDER BY sequence LIMIT :limit) AS some
WHERE slot IS NOT NULL AND EXISTS (
  SELECT 1 FROM outbox_<priority> AS newer WHERE newer.slot = some.slot AND newer.sequence > some.sequence)"""

    @classmethod
    def of(cls, priority: Priority) -> Self:
        """Return the statements of ``priority``."""
        texts = [str(field.default) for field in fields(cls)]
        for name, meaning in (
            ("<pending>", _PENDING),
            ("<untried>", _UNTRIED),
            ("<wanted>", _WANTED),
            ("<skipped>", _SKIPPED),
            ("<needless>", _NEEDLESS),
            ("<priority>", priority.value),
        ):
            texts = [text.replace(name, meaning) for text in texts]
        return cls(*texts)


STATEMENTS: Mapping[Priority, Statements] = {
    priority: Statements.of(priority) for priority in (Priority.URGENT, Priority.CHANGE)
}
"""In the order in which priorities are drained; measurements have no event before they leave (packs.py)."""
