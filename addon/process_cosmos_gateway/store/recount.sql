-- Run after a recovery, once all readable rows are copied and before the store opens: sets each package's counters to the
-- rows that are there. It may scan tables.

-- outbox --------------------------------------------------------------------------------------------------------------

-- If a queue's last number was lost, new events could get numbers before a cursor, and would never be sent.
UPDATE sqlite_sequence SET seq = max(
  seq,
  ifnull((SELECT max(sequence) FROM outbox_cursor WHERE 'outbox_' || priority = name), 0),
  ifnull((SELECT max(sequence) FROM outbox_exception WHERE 'outbox_' || priority = name), 0),
  ifnull((SELECT max(sequence) FROM outbox_skip WHERE 'outbox_' || priority = name), 0)
);
UPDATE outbox_counter SET value = (SELECT count(*) FROM outbox_urgent) WHERE name = 'urgent';
UPDATE outbox_counter SET value = (SELECT count(*) FROM outbox_change) WHERE name = 'change';
UPDATE outbox_counter SET value = (SELECT count(*) FROM outbox_reading) WHERE name = 'reading';
UPDATE outbox_counter SET value = (SELECT count(*) FROM outbox_id) WHERE name = 'id';
-- If the counter was lost, new ids must not be counted as the oldest generation.
UPDATE outbox_counter SET value = max(value, 1 + ifnull((SELECT max(generation) FROM outbox_id), 0))
  WHERE name = 'id_generation';
INSERT OR IGNORE INTO outbox_id_sweep VALUES (1, '');
UPDATE outbox_counter SET value = (SELECT count(*) FROM outbox_rejected) WHERE name = 'rejected';
INSERT OR IGNORE INTO outbox_destination (name) SELECT destination FROM outbox_cursor UNION SELECT destination FROM outbox_kind;
-- A destination whose cursor was lost gets all stored events again.
INSERT OR IGNORE INTO outbox_cursor
  SELECT name, value, 0 FROM outbox_destination, json_each('["urgent", "change", "reading"]');
INSERT OR REPLACE INTO outbox_backlog SELECT destination, priority, 0, 0 FROM outbox_cursor;
UPDATE outbox_backlog SET (events, bytes) = (
  SELECT count(*), coalesce(sum(length(body)), 0) FROM (
    SELECT 'urgent' AS priority, sequence, kind, only_for, body FROM outbox_urgent
    UNION ALL SELECT 'change', sequence, kind, only_for, body FROM outbox_change) AS queue
  JOIN outbox_cursor AS cursor USING (priority)
  WHERE cursor.destination = outbox_backlog.destination AND queue.priority = outbox_backlog.priority
    AND (queue.sequence > cursor.sequence AND (only_for = cursor.destination OR only_for IS NULL AND EXISTS (
        SELECT 1 FROM outbox_kind AS wanted WHERE wanted.kind = queue.kind AND wanted.destination = cursor.destination))
      AND NOT EXISTS (SELECT 1 FROM outbox_skip AS skip WHERE skip.destination = cursor.destination
        AND skip.priority = queue.priority AND skip.sequence = queue.sequence)
      OR EXISTS (SELECT 1 FROM outbox_exception AS behind WHERE behind.destination = cursor.destination
        AND behind.priority = queue.priority AND behind.sequence = queue.sequence)));
-- A batch with missing readings would have other bytes under the same id: it is built again with a new id.
DELETE FROM outbox_reading_batch WHERE (SELECT count(*) FROM outbox_reading WHERE sequence BETWEEN first AND last) <
  last - first + 1;
UPDATE outbox_backlog SET (events, bytes) = (
  SELECT count(*), count(*) * 48 FROM outbox_reading AS queue
  JOIN outbox_cursor AS cursor ON cursor.destination = outbox_backlog.destination AND cursor.priority = 'reading'
  WHERE queue.sequence > cursor.sequence) WHERE priority = 'reading'
  AND destination IN (SELECT destination FROM outbox_kind WHERE kind = 'reading');

-- devices -------------------------------------------------------------------------------------------------------------

UPDATE device_property SET bytes = (
  SELECT count(*) * 48 + coalesce(sum(iif(typeof(value) = 'text', octet_length(value), 0)), 0)
  FROM device_reading WHERE property = device_property.number
);
