-- From schema 1 to 2. Sections as in schema.sql; run in one transaction with the new version.

-- store ---------------------------------------------------------------------------------------------------------------

CREATE TABLE quarantine (
  number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, row BLOB NOT NULL, set_aside_at REAL NOT NULL
) STRICT;

-- outbox --------------------------------------------------------------------------------------------------------------

DROP TRIGGER outbox_alarm_in;
DROP TRIGGER outbox_alarm_out;
DROP TRIGGER outbox_change_in;
DROP TRIGGER outbox_change_out;
DROP TRIGGER outbox_measurement_in;
DROP TRIGGER outbox_measurement_out;
DROP TRIGGER outbox_id_in;
DROP TRIGGER outbox_id_out;
DROP TRIGGER outbox_rejected_in;
DROP TRIGGER outbox_rejected_out;

ALTER TABLE outbox_alarm RENAME TO before_alarm;
CREATE TABLE outbox_alarm (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  only_for TEXT, slot TEXT, replayed INTEGER NOT NULL DEFAULT 0, accepted_at REAL NOT NULL, expires_at REAL,
  checksum INTEGER, body BLOB NOT NULL
) STRICT;
INSERT INTO outbox_alarm (sequence, id, type, kind, subject, key, only_for, replayed, accepted_at, body)
  SELECT sequence, id, type, kind, subject, key, only_for, replayed, accepted_at, body FROM before_alarm;
DELETE FROM sqlite_sequence WHERE name = 'outbox_alarm';
INSERT INTO sqlite_sequence SELECT 'outbox_alarm', seq FROM sqlite_sequence WHERE name = 'before_alarm';
DROP TABLE before_alarm;

ALTER TABLE outbox_change RENAME TO before_change;
CREATE TABLE outbox_change (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  only_for TEXT, slot TEXT, replayed INTEGER NOT NULL DEFAULT 0, accepted_at REAL NOT NULL, expires_at REAL,
  checksum INTEGER, body BLOB NOT NULL
) STRICT;
INSERT INTO outbox_change (sequence, id, type, kind, subject, key, only_for, replayed, accepted_at, body)
  SELECT sequence, id, type, kind, subject, key, only_for, replayed, accepted_at, body FROM before_change;
DELETE FROM sqlite_sequence WHERE name = 'outbox_change';
INSERT INTO sqlite_sequence SELECT 'outbox_change', seq FROM sqlite_sequence WHERE name = 'before_change';
DROP TABLE before_change;

CREATE INDEX outbox_alarm_only ON outbox_alarm (id) WHERE only_for IS NOT NULL;
CREATE INDEX outbox_change_slot ON outbox_change (slot, sequence) WHERE slot IS NOT NULL;

-- Events of readings go on as changes; what a destination had of them already comes there again, under the same id.
INSERT INTO outbox_change (id, type, kind, subject, key, only_for, replayed, accepted_at, body)
  SELECT id, type, kind, subject, key, only_for, replayed, accepted_at, body FROM outbox_measurement ORDER BY sequence;
DROP TABLE outbox_measurement;
DELETE FROM outbox_exception WHERE priority = 'measurement';
UPDATE outbox_cursor SET sequence = 0 WHERE priority = 'measurement';
CREATE TABLE outbox_measurement (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  series INTEGER NOT NULL, time REAL NOT NULL, value ANY NOT NULL, accepted_at REAL NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;
CREATE TABLE outbox_series (
  number INTEGER PRIMARY KEY, device TEXT NOT NULL, property TEXT NOT NULL, unit TEXT NOT NULL,
  UNIQUE (device, property, unit)
) STRICT;
CREATE TABLE outbox_pack (
  destination TEXT PRIMARY KEY, id TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0, strikes INTEGER NOT NULL DEFAULT 0, delivered_then INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox_last_pack (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
CREATE TABLE outbox_parked (
  number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  asked INTEGER NOT NULL, accepted_at REAL NOT NULL, expires_at REAL, checksum INTEGER, body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_parked_destination ON outbox_parked (destination, number);
CREATE INDEX outbox_parked_key ON outbox_parked (destination, key, asked);
CREATE INDEX outbox_parked_id ON outbox_parked (id);
CREATE INDEX outbox_parked_expiry ON outbox_parked (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE outbox_skip (
  destination TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL,
  PRIMARY KEY (destination, priority, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox_backlog (
  destination TEXT NOT NULL, priority TEXT NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (destination, priority)
) STRICT, WITHOUT ROWID;
CREATE TABLE outbox_drop (
  priority TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (priority, reason)
) STRICT, WITHOUT ROWID;

ALTER TABLE outbox_rejected RENAME TO before_rejected;
CREATE TABLE outbox_rejected (
  number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, priority TEXT NOT NULL,
  code TEXT NOT NULL, message TEXT NOT NULL, reply TEXT, attempts INTEGER NOT NULL, rejected_at REAL NOT NULL,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL
) STRICT;
INSERT INTO outbox_rejected (attempts, rejected_at, number, destination, priority, code, message, id, type, kind, subject, key, body)
  SELECT 0, unixepoch('subsec'), number, destination, priority, code, message, id, type, kind, subject, key, body FROM before_rejected;
DELETE FROM sqlite_sequence WHERE name = 'outbox_rejected';
INSERT INTO sqlite_sequence SELECT 'outbox_rejected', seq FROM sqlite_sequence WHERE name = 'before_rejected';
DROP TABLE before_rejected;

INSERT INTO outbox_backlog SELECT destination, priority, 0, 0 FROM outbox_cursor;
UPDATE outbox_backlog SET (events, bytes) = (
  SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox_alarm AS queue
  JOIN outbox_cursor AS cursor ON cursor.destination = outbox_backlog.destination AND cursor.priority = 'alarm'
  WHERE queue.sequence > cursor.sequence AND (only_for = cursor.destination OR only_for IS NULL AND EXISTS (
      SELECT 1 FROM outbox_kind AS wanted WHERE wanted.kind = queue.kind AND wanted.destination = cursor.destination))
    OR EXISTS (SELECT 1 FROM outbox_exception AS behind WHERE behind.destination = cursor.destination
      AND behind.priority = 'alarm' AND behind.sequence = queue.sequence)) WHERE priority = 'alarm';
UPDATE outbox_backlog SET (events, bytes) = (
  SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox_change AS queue
  JOIN outbox_cursor AS cursor ON cursor.destination = outbox_backlog.destination AND cursor.priority = 'change'
  WHERE queue.sequence > cursor.sequence AND (only_for = cursor.destination OR only_for IS NULL AND EXISTS (
      SELECT 1 FROM outbox_kind AS wanted WHERE wanted.kind = queue.kind AND wanted.destination = cursor.destination))
    OR EXISTS (SELECT 1 FROM outbox_exception AS behind WHERE behind.destination = cursor.destination
      AND behind.priority = 'change' AND behind.sequence = queue.sequence)) WHERE priority = 'change';

INSERT INTO outbox_drop SELECT 'measurement', 'quota', value FROM outbox_counter WHERE name = 'dropped' AND value > 0;
DELETE FROM outbox_counter WHERE name = 'dropped';
INSERT INTO outbox_counter (name) VALUES ('parked'), ('parked_bytes');
UPDATE outbox_counter SET value = 0 WHERE name = 'measurement';
UPDATE outbox_counter SET value = (SELECT count(*) FROM outbox_change) WHERE name = 'change';

-- destinations --------------------------------------------------------------------------------------------------------

CREATE TABLE destination_token (name TEXT PRIMARY KEY, token TEXT NOT NULL) STRICT, WITHOUT ROWID;
-- Certificates of schema 1 last a year, and nobody has noted when half of it is over.
UPDATE destination SET settings = CAST(json_set(
  CAST(settings AS TEXT), '$.credentials.renew_at',
  strftime('%Y-%m-%dT%H:%M:%S+00:00', json_extract(CAST(settings AS TEXT), '$.credentials.expires_at'), '-182 days')
) AS BLOB) WHERE kind = 'cloud' AND json_extract(CAST(settings AS TEXT), '$.credentials.renew_at') IS NULL;

-- devices -------------------------------------------------------------------------------------------------------------

ALTER TABLE device_property RENAME TO before_property;
CREATE TABLE device_property (
  number INTEGER PRIMARY KEY, device INTEGER NOT NULL, name TEXT NOT NULL, value BLOB, time REAL,
  bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (device, name)
) STRICT;
INSERT INTO device_property (number, device, name, value, time) SELECT * FROM before_property;
DROP TABLE before_property;
UPDATE device_property SET bytes = (
  SELECT count(*) * 48 + coalesce(sum(iif(typeof(value) = 'text', octet_length(value), 0)), 0)
  FROM device_reading WHERE property = device_property.number
);

ALTER TABLE device_message RENAME TO before_message;
CREATE TABLE device_message (number INTEGER PRIMARY KEY, session TEXT NOT NULL, marks BLOB NOT NULL) STRICT;
INSERT INTO device_message SELECT number, session, unhex(printf('%04x', message) || hex(hash)) FROM before_message;
DROP TABLE before_message;

CREATE TABLE device_counter (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO device_counter (name, value) VALUES
  ('sessions', 0), ('gaps', 0), ('broker_count', -1), ('broker_dropped', 0), ('budget_day', 0), ('budget_bytes', 0);
CREATE TABLE device_window (
  property INTEGER NOT NULL, begin REAL NOT NULL, length REAL NOT NULL, aggregate TEXT NOT NULL,
  time REAL NOT NULL, value REAL NOT NULL, count INTEGER NOT NULL, unit TEXT, due_at REAL NOT NULL,
  PRIMARY KEY (property, begin, length, aggregate)
) STRICT, WITHOUT ROWID;
CREATE TABLE device_gate (
  property INTEGER NOT NULL, late INTEGER NOT NULL, sent_time REAL, sent_value REAL, held_time REAL, held_value REAL,
  unit TEXT, due_at REAL NOT NULL, PRIMARY KEY (property, late)
) STRICT, WITHOUT ROWID;
UPDATE device_counter SET value = (SELECT count(*) FROM device_session) WHERE name = 'sessions';
