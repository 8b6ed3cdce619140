"""SQL statements for encoded events, generated for each priority because each has its own table."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Self

from process_cosmos_gateway.contract.destinations import Priority

_WANTED = """(only_for = :destination OR only_for IS NULL AND kind IN (
  SELECT kind FROM outbox_kind AS wanted WHERE wanted.destination = :destination))"""

_SKIPPED = """sequence IN (
  SELECT sequence FROM outbox_skip WHERE destination = :destination AND priority = '<priority>')"""

_SETTLED = """NOT EXISTS (
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

# Bounded by numbers, because LIMIT would first scan all events of blocked keys. SQLite never reorders a CROSS JOIN:
# the few numbers are found first, and each row is then read by its rowid.
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
    """The statements of one priority, written with placeholders.

    ``<priority>``: its name. ``<wanted>``: the destination receives the event. ``<pending>``: the event waits for the
    destination. ``<untried>``: pending events that have not failed, with ``:begin`` <= sequence < ``:end``.
    ``<skipped>``: the event is no longer sent to the destination. ``<settled>``: the event
    waits for no destination. Ahead of the cursor an event is pending unless it is in ``outbox_skip``, behind it
    only if it is in ``outbox_exception``.
    """

    insert: str = """
INSERT INTO outbox_<priority>
  (id, type, kind, subject, key, only_for, slot, replayed, accepted_at, checksum, body) VALUES """

    skip_unwanted: str = """
UPDATE outbox_cursor SET sequence = :last
WHERE priority = '<priority>' AND sequence = :before AND destination = :destination"""

    cursor: str = "SELECT sequence FROM outbox_cursor WHERE destination = ? AND priority = '<priority>'"

    # The last number ever used, which the table itself does not hold once it is empty.
    begin_at_end: str = """
INSERT INTO outbox_cursor VALUES
  (?, '<priority>', ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0))"""

    failed: str = """
SELECT sequence, key, failures, id, type, subject, body, replayed, checksum
FROM outbox_exception JOIN outbox_<priority> USING (sequence)
WHERE destination = :destination AND priority = '<priority>' AND failures > 0
  AND key NOT IN (SELECT value FROM json_each(:busy))
ORDER BY sequence LIMIT :limit"""

    after_cursor: str = """
SELECT sequence, key, 0, id, type, subject, body, replayed, checksum FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND <wanted> AND NOT <skipped> ORDER BY sequence LIMIT :limit"""

    exception_and_newest: str = """
SELECT
  (SELECT min(sequence) FROM outbox_exception WHERE destination = ? AND priority = '<priority>'),
  ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0)"""

    unblocked: str = """
SELECT sequence, key, 0, id, type, subject, body, replayed, checksum <untried>
WHERE key NOT IN (SELECT value FROM json_each(:blocked)) ORDER BY sequence LIMIT :limit"""

    untried_keys: str = "SELECT DISTINCT key <untried>"

    oldest_accepted_at: str = "SELECT accepted_at FROM outbox_<priority> ORDER BY sequence LIMIT 1"

    next_rows: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND <wanted> AND NOT <skipped> ORDER BY sequence LIMIT :limit"""

    pending: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue
WHERE sequence IN (SELECT value FROM json_each(:sequences)) AND <pending>"""

    pending_totals: str = """
SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox_<priority> AS queue WHERE <pending>"""

    first_pending: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue WHERE <pending> ORDER BY sequence LIMIT :limit"""

    record_exceptions: str = """
INSERT OR IGNORE INTO outbox_exception (destination, priority, sequence, delivered_then)
SELECT :destination, '<priority>', sequence, :delivered FROM outbox_<priority> AS queue
WHERE sequence > :cursor AND sequence <= :reached AND <wanted> AND NOT <skipped>
  AND sequence NOT IN (SELECT value FROM json_each(:settled))"""

    # Also passes the events that the destination does not receive: the next fetch would scan them again.
    advance_cursor: str = """
UPDATE outbox_cursor SET sequence = max(sequence, :reached, coalesce(
  (SELECT sequence - 1 FROM outbox_<priority> AS queue
   WHERE sequence > max(:reached, outbox_cursor.sequence) AND <wanted> ORDER BY sequence LIMIT 1),
  (SELECT seq FROM sqlite_sequence WHERE name = 'outbox_<priority>'), 0))
WHERE destination = :destination AND priority = '<priority>'"""

    mark_skipped: str = """
INSERT OR IGNORE INTO outbox_skip
SELECT :destination, '<priority>', sequence FROM outbox_<priority>
WHERE sequence IN (SELECT value FROM json_each(:sequences))
  AND sequence > (SELECT sequence FROM outbox_cursor WHERE destination = :destination AND priority = '<priority>')"""

    delete_passed_skips: str = """
DELETE FROM outbox_skip WHERE destination = :destination AND priority = '<priority>' AND sequence <= (
  SELECT sequence FROM outbox_cursor WHERE destination = :destination AND priority = '<priority>')"""

    # The list of destinations makes the primary key usable, which begins with the destination.
    delete_marks: str = """
DELETE FROM outbox_<mark>
WHERE destination IN (SELECT name FROM outbox_destination) AND priority = '<priority>' AND sequence = ?"""

    has_exceptions: str = """
SELECT 1 FROM outbox_exception WHERE destination = ? AND priority = '<priority>' LIMIT 1"""

    settle_exceptions: str = """
DELETE FROM outbox_exception
WHERE destination = ? AND priority = '<priority>' AND sequence IN (SELECT value FROM json_each(?))"""

    count_failure: str = """
UPDATE outbox_exception
SET failures = failures + 1, strikes = strikes + (:delivered > delivered_then), delivered_then = :delivered
WHERE destination = :destination AND priority = '<priority>' AND sequence = :sequence RETURNING strikes"""

    copy_to_rejected: str = """
INSERT INTO outbox_rejected
  (destination, priority, code, message, reply, attempts, rejected_at, id, type, kind, subject, key, body)
SELECT ?, '<priority>', ?, ?, ?, ?, ?, id, type, kind, subject, key, body FROM outbox_<priority> WHERE sequence = ?"""

    # All destinations have settled what lies below the lowest cursor and the lowest exception; 9e18: no exception.
    delete_settled_below: str = """
DELETE FROM outbox_<priority> WHERE sequence <= min(
  (SELECT min(sequence) FROM outbox_cursor WHERE priority = '<priority>'),
  coalesce((SELECT min(sequence) - 1 FROM outbox_exception WHERE priority = '<priority>'), 9e18))"""

    delete_settled: str = """
DELETE FROM outbox_<priority> AS queue
WHERE sequence IN (SELECT value FROM json_each(?)) AND <settled> RETURNING sequence"""

    delete_all_settled: str = "DELETE FROM outbox_<priority> AS queue WHERE <settled>"

    withdraw: str = "DELETE FROM outbox_<priority> WHERE id = ? AND only_for = ? RETURNING sequence, length(body)"

    older_of_slot: str = """
SELECT sequence, length(body) FROM outbox_<priority> AS queue
WHERE slot = :slot AND sequence < (SELECT max(sequence) FROM outbox_<priority> WHERE slot = :slot) AND <pending>
ORDER BY sequence"""

    superseded_among_oldest: str = """
SELECT sequence, size FROM (
  SELECT sequence, slot, length(body) AS size FROM outbox_<priority> AS queue
  WHERE <pending> ORDER BY sequence LIMIT :limit) AS oldest
WHERE slot IS NOT NULL AND EXISTS (
  SELECT 1 FROM outbox_<priority> AS newer WHERE newer.slot = oldest.slot AND newer.sequence > oldest.sequence)"""

    @classmethod
    def for_priority(cls, priority: Priority) -> Self:
        """Return the statements of ``priority`` with all placeholders replaced."""
        texts = [str(field.default) for field in fields(cls)]
        for name, meaning in (
            ("<pending>", _PENDING),
            ("<untried>", _UNTRIED),
            ("<wanted>", _WANTED),
            ("<skipped>", _SKIPPED),
            ("<settled>", _SETTLED),
            ("<priority>", priority.value),
        ):
            texts = [text.replace(name, meaning) for text in texts]
        return cls(*texts)


STATEMENTS: Mapping[Priority, Statements] = {
    priority: Statements.for_priority(priority) for priority in (Priority.URGENT, Priority.CHANGE)
}
"""In the order in which priorities are sent. Readings are not stored as encoded events (reading_batches.py)."""
