-- Run when a backup is adopted, before anybody looks at it, whatever version has made it: what was about to happen when it
-- was made has happened since, or was overtaken.

-- devices -------------------------------------------------------------------------------------------------------------

-- A command that was on its way then must not move a valve now.
DELETE FROM device_write;
-- How things stood then is not how they stand now: the broker is asked, and what it says is no news.
UPDATE device_property SET value = NULL;
