-- Run on the copied tables after a recovery: the number of rows a table had, as counted by another table. Columns: the table,
-- the number, whether it is exact (else an upper bound), and the table it comes from, which must have been read completely.

SELECT 'outbox_' || name, max(value, ifnull((SELECT max(events) FROM outbox_backlog WHERE priority = name), 0)),
  1, 'outbox_counter' FROM outbox_counter WHERE name IN ('urgent', 'change', 'reading', 'rejected', 'id')
UNION ALL
-- A numeric reading is counted as 48 bytes, a string as more.
SELECT 'device_reading', CAST(total(bytes) / 48 AS INTEGER), 0, 'device_property' FROM device_property
UNION ALL
-- All messages of the newest commit are in one row.
VALUES ('device_message', 1, 0, NULL), ('quarantine', 1000, 0, NULL), ('outbox_last_reading_batch', 1, 0, NULL),
  ('device_session', 1, 0, NULL)
UNION ALL
SELECT 'device_write', count(*), 0, 'device_property' FROM device_property
UNION ALL
SELECT 'outbox_destination', count(DISTINCT destination), 0, 'outbox_cursor' FROM outbox_cursor
UNION ALL
-- One more destination may be stored that is not registered yet.
SELECT 'destination', 1 + count(*), 0, 'outbox_destination' FROM outbox_destination
UNION ALL
SELECT 'destination_token', count(*), 0, 'destination' FROM destination
UNION ALL
SELECT 'outbox_reading_batch', count(*), 0, 'outbox_destination' FROM outbox_destination
UNION ALL
SELECT 'outbox_kind', 3 * count(*), 0, 'outbox_destination' FROM outbox_destination
UNION ALL
SELECT 'outbox_cursor', 3 * count(*), 0, 'outbox_destination' FROM outbox_destination
UNION ALL
SELECT 'outbox_backlog', 3 * count(*), 0, 'outbox_destination' FROM outbox_destination;
