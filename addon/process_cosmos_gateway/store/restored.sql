-- Run when a backup is adopted, before its migration, so it must fit every schema version. What was pending when the backup
-- was made has happened since, or was superseded.

-- devices -------------------------------------------------------------------------------------------------------------

-- A command that was pending then must not move a valve now.
DELETE FROM device_write;
-- The values are outdated: the broker sends the current ones, and these must not count as changes.
UPDATE device_property SET value = NULL;
