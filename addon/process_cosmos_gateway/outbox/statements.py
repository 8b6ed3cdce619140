"""The outbox's SQL, once per priority: each has a table of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from process_cosmos_gateway.contract.destinations import Priority

_WANTED = """(only_for = :destination OR only_for IS NULL AND EXISTS (
  SELECT 1 FROM outbox_kind AS wanted WHERE wanted.kind = queue.kind AND wanted.destination = :destination))"""

_NEEDLESS = """NOT EXISTS (
  SELECT 1 FROM outbox_cursor AS cursor
  WHERE cursor.priority = '<priority>'
    AND (queue.only_for = cursor.destination OR queue.only_for IS NULL AND EXISTS (
      SELECT 1 FROM outbox_kind AS wanted WHERE wanted.kind = queue.kind AND wanted.destination = cursor.destination))
    AND (queue.sequence > cursor.sequence OR EXISTS (
      SELECT 1 FROM outbox_exception AS behind
      WHERE behind.destination = cursor.destination AND behind.priority = '<priority>'
        AND behind.sequence = queue.sequence)))"""


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of one priority.

    ``<priority>`` stands for its name, ``<wanted>`` for: the destination wants it, ``<needless>`` for: nobody waits for
    it.
    """

    insert: str = """
INSERT INTO outbox_<priority> (id, type, kind, subject, key, only_for, replayed, accepted_at, body)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING sequence"""

    skip: str = """
UPDATE outbox_cursor SET sequence = :sequence
WHERE priority = '<priority>' AND sequence = :sequence - 1 AND destination IS NOT :only
  AND (:only IS NOT NULL OR destination NOT IN (SELECT destination FROM outbox_kind WHERE kind = :kind))"""

    drop_oldest: str = """
DELETE FROM outbox_<priority> WHERE sequence IN (
  SELECT sequence FROM outbox_<priority> ORDER BY sequence LIMIT ?) RETURNING sequence"""

    drop_exceptions: str = """
DELETE FROM outbox_exception
WHERE destination IN (SELECT name FROM outbox_destination) AND priority = '<priority>' AND sequence = ?"""

    cursor: str = "SELECT sequence FROM outbox_cursor WHERE destination = ? AND priority = '<priority>'"

    begin_at_end: str = """
INSERT INTO outbox_cursor VALUES
  (?, '<priority>', ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0))"""

    behind: str = """
SELECT sequence, key, failures FROM outbox_exception JOIN outbox_<priority> USING (sequence)
WHERE destination = ? AND priority = '<priority>' ORDER BY sequence"""

    ahead: str = """
SELECT sequence, key FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND <wanted> ORDER BY sequence LIMIT :limit"""

    contents: str = """
SELECT sequence, id, type, subject, body, replayed FROM outbox_<priority>
WHERE sequence IN (SELECT value FROM json_each(?))"""

    oldest: str = "SELECT accepted_at FROM outbox_<priority> ORDER BY sequence LIMIT 1"

    leave_behind: str = """
INSERT OR IGNORE INTO outbox_exception (destination, priority, sequence, delivered_then)
SELECT :destination, '<priority>', sequence, :delivered FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND sequence <= :reached AND <wanted>
  AND sequence NOT IN (SELECT value FROM json_each(:settled))"""

    advance: str = """
UPDATE outbox_cursor SET sequence = max(sequence, :reached, coalesce(
  (SELECT sequence - 1 FROM outbox_<priority> AS queue
   WHERE sequence > max(:reached, outbox_cursor.sequence) AND <wanted> ORDER BY sequence LIMIT 1),
  (SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0))
WHERE destination = :destination AND priority = '<priority>'"""

    settle_exceptions: str = """
DELETE FROM outbox_exception
WHERE destination = ? AND priority = '<priority>' AND sequence IN (SELECT value FROM json_each(?))"""

    fail: str = """
UPDATE outbox_exception
SET failures = failures + 1, strikes = strikes + (:delivered > delivered_then), delivered_then = :delivered
WHERE destination = :destination AND priority = '<priority>' AND sequence = :sequence RETURNING strikes"""

    reject: str = """
INSERT INTO outbox_rejected (destination, priority, code, message, id, type, kind, subject, key, body)
SELECT ?, '<priority>', ?, ?, id, type, kind, subject, key, body FROM outbox_<priority> WHERE sequence = ?"""

    clean: str = """
DELETE FROM outbox_<priority> AS queue
WHERE sequence IN (SELECT value FROM json_each(?)) AND <needless>"""

    clean_all: str = "DELETE FROM outbox_<priority> AS queue WHERE <needless>"

    send_again: str = """
INSERT INTO outbox_<priority> (id, type, kind, subject, key, only_for, replayed, accepted_at, body)
SELECT id, type, kind, subject, key, destination, 1, ?, body FROM outbox_rejected
WHERE priority = '<priority>' ORDER BY number"""

    withdraw: str = "DELETE FROM outbox_<priority> WHERE id = ? AND only_for = ? RETURNING sequence"

    @classmethod
    def of(cls, priority: Priority) -> Self:
        """Return the statements of ``priority``."""
        templates = (str(field.default) for field in fields(cls))
        whole = (text.replace("<wanted>", _WANTED).replace("<needless>", _NEEDLESS) for text in templates)
        return cls(*(text.replace("<priority>", priority) for text in whole))


STATEMENTS: Mapping[Priority, Statements] = {priority: Statements.of(priority) for priority in Priority}
"""In the order in which priorities are drained."""
