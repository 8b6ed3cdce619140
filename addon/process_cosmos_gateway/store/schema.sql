-- The gateway's tables, one section per package; only that package reads and writes them.
-- Times are seconds since 1970 (REAL). Once a version is released, a change here needs the same change in migrations/.

-- store ---------------------------------------------------------------------------------------------------------------

CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- Copies of damaged rows, for inspection. origin: the table. row: the values as a JSON array, bytes in hexadecimal.
CREATE TABLE quarantine (
  number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, row BLOB NOT NULL, set_aside_at REAL NOT NULL
) STRICT;

-- outbox --------------------------------------------------------------------------------------------------------------

-- One table per priority. AUTOINCREMENT never reuses a number, even after the table was empty.
-- only_for: the only destination of the event. slot: if space is short, a newer event of the same slot supersedes this one.
-- checksum: CRC-32 of body. body: the encoded CloudEvent.
CREATE TABLE outbox_urgent (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  only_for TEXT, slot TEXT, replayed INTEGER NOT NULL DEFAULT 0, accepted_at REAL NOT NULL,
  checksum INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_urgent_only ON outbox_urgent (id) WHERE only_for IS NOT NULL;
CREATE INDEX outbox_urgent_slot ON outbox_urgent (slot, sequence) WHERE slot IS NOT NULL;

CREATE TABLE outbox_change (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  only_for TEXT, slot TEXT, replayed INTEGER NOT NULL DEFAULT 0, accepted_at REAL NOT NULL,
  checksum INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_change_slot ON outbox_change (slot, sequence) WHERE slot IS NOT NULL;

-- One reading per row; they are sent in batches. value: a number. checksum: CRC-32 of the
-- other columns and of the series' device, property and unit.
CREATE TABLE outbox_reading (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  series INTEGER NOT NULL, time REAL NOT NULL, value ANY NOT NULL, accepted_at REAL NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox_series (
  number INTEGER PRIMARY KEY, device TEXT NOT NULL, property TEXT NOT NULL, unit TEXT NOT NULL,
  UNIQUE (device, property, unit)
) STRICT;

-- The range of readings in a destination's next batch, fixed before the first attempt, so that a retry sends the same.
CREATE TABLE outbox_reading_batch (
  destination TEXT PRIMARY KEY, id TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0, strikes INTEGER NOT NULL DEFAULT 0, delivered_then INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The id of the newest reading batch; the next id is greater, even if the clock goes back.
CREATE TABLE outbox_last_reading_batch (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;

-- Accepted ids, kept after delivery to recognise repeats. hash: 8 bytes of a hash of the content.
-- generation: the group of arrivals the id belongs to; the oldest generation is deleted first, whatever the ids.
CREATE TABLE outbox_id (id TEXT PRIMARY KEY, hash BLOB NOT NULL, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- The id up to which the oldest generation has been deleted.
CREATE TABLE outbox_id_sweep (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
INSERT INTO outbox_id_sweep VALUES (1, '');

-- delivered: number of events delivered to this destination.
CREATE TABLE outbox_destination (name TEXT PRIMARY KEY, delivered INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;

CREATE TABLE outbox_kind (kind TEXT NOT NULL, destination TEXT NOT NULL, PRIMARY KEY (kind, destination))
STRICT, WITHOUT ROWID;

-- All events of a priority for a destination are settled up to this sequence, except those in outbox_exception.
CREATE TABLE outbox_cursor (
  destination TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (destination, priority)
) STRICT, WITHOUT ROWID;

-- Before the cursor, but not settled. failures = 0: held back behind another event. strikes: failures that followed a
-- delivery of another event since the failure before.
CREATE TABLE outbox_exception (
  destination TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0, strikes INTEGER NOT NULL DEFAULT 0, delivered_then INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (destination, priority, sequence)
) STRICT, WITHOUT ROWID;

-- Behind the cursor, and given up for this destination; other destinations may still wait.
CREATE TABLE outbox_skip (
  destination TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL,
  PRIMARY KEY (destination, priority, sequence)
) STRICT, WITHOUT ROWID;

-- Waiting events per destination. Updated with each change: counting a million rows takes a second.
CREATE TABLE outbox_backlog (
  destination TEXT NOT NULL, priority TEXT NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (destination, priority)
) STRICT, WITHOUT ROWID;

-- Number of accepted events that a destination did not get, since the database was created.
CREATE TABLE outbox_drop (
  priority TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (priority, reason)
) STRICT, WITHOUT ROWID;

-- Copies of permanently rejected events, which block no others. attempts: delivery attempts. reply: the receiver's reply.
CREATE TABLE outbox_rejected (
  number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, priority TEXT NOT NULL,
  code TEXT NOT NULL, message TEXT NOT NULL, reply TEXT, attempts INTEGER NOT NULL, rejected_at REAL NOT NULL,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL
) STRICT;

-- Row counts by table. conflict: known ids received with other content; forgotten: ids deleted for lack of space.
-- id_generation: the current generation, id_generation_size: its number of ids, id_oldest: the generation deleted next.
-- own_id_ms: the timestamp of the newest event id this gateway has made.
CREATE TABLE outbox_counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO outbox_counter (name) VALUES
  ('urgent'), ('change'), ('reading'), ('id'), ('rejected'), ('conflict'), ('forgotten'),
  ('id_generation_size'), ('id_oldest'), ('own_id_ms');
INSERT INTO outbox_counter VALUES ('id_generation', 1);

-- alerts ---------------------------------------------------------------------------------------------------------

-- Key-value pairs: the applied position (run, n), the steady clock (offset, newest), the last stop (stop_announced), and
-- the epoch in which the integration last caught up.
CREATE TABLE alert_state (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- The replica. body: contract Replica as JSON. notify_at, until_at, changed_at: steady time (alerts/steady_clock.py).
-- event: the event of the newest transition as JSON, for destinations added later.
CREATE TABLE alert (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, alive INTEGER NOT NULL, run TEXT NOT NULL, n INTEGER NOT NULL,
  notify_at REAL, until_at REAL NOT NULL, changed_at REAL NOT NULL, body BLOB NOT NULL, event BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_alive ON alert (id) WHERE alive = 1;
CREATE INDEX alert_closed ON alert (changed_at) WHERE alive = 0;

-- due, due_away, settled_at: steady time. event: id of the notification_requested event.
CREATE TABLE notification_request (
  alert TEXT NOT NULL, revision INTEGER NOT NULL, level INTEGER NOT NULL, round INTEGER NOT NULL,
  recipient TEXT NOT NULL, due REAL NOT NULL, due_away REAL NOT NULL, state TEXT NOT NULL, event TEXT NOT NULL,
  settled_at REAL, PRIMARY KEY (alert, revision, level, round, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_request_event ON notification_request (event);
CREATE INDEX notification_request_queued ON notification_request (recipient) WHERE state = 'queued';

-- Answers and acknowledgements received from destinations, in order of arrival. id: destination/item (join_names). given_at:
-- steady time. settled: the integration has recorded or refused it.
CREATE TABLE alert_proposal (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, alert TEXT NOT NULL, given_at REAL NOT NULL,
  settled INTEGER NOT NULL DEFAULT 0, revision INTEGER, answer TEXT, acknowledge_for REAL, by TEXT NOT NULL
) STRICT;
CREATE INDEX alert_proposal_open ON alert_proposal (alert) WHERE settled = 0;
CREATE INDEX alert_proposal_settled ON alert_proposal (number) WHERE settled = 1;

-- destinations --------------------------------------------------------------------------------------------------------

-- settings: JSON, with secrets (URL, header, key, certificate). proven: a delivery with these settings has succeeded.
CREATE TABLE destination (
  name TEXT PRIMARY KEY, kind TEXT NOT NULL, settings BLOB NOT NULL,
  proven INTEGER NOT NULL DEFAULT 0, inbox_cursor INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The token of a cloud endpoint's newest settled reply. A copy of this database presents an older one, which reveals it.
CREATE TABLE destination_token (name TEXT PRIMARY KEY, token TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- devices -------------------------------------------------------------------------------------------------------------

-- description: the Thing Description as received, empty once withdrawn (its readings stay until they are too old).
CREATE TABLE device (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, description BLOB NOT NULL, online INTEGER
) STRICT;

-- value, time: the newest value received (JSON), and its time. bytes: size of its readings, updated together with this row.
CREATE TABLE device_property (
  number INTEGER PRIMARY KEY, device INTEGER NOT NULL, name TEXT NOT NULL, value BLOB, time REAL,
  bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (device, name)
) STRICT;

-- Raw readings, never overwritten: a repeated value of the same time is one row, a different value is another row.
CREATE TABLE device_reading (
  property INTEGER NOT NULL, time REAL NOT NULL, value ANY NOT NULL, received_at REAL NOT NULL,
  PRIMARY KEY (property, time, value)
) STRICT, WITHOUT ROWID;

-- Unconfirmed property writes; a newer one replaces an older one. value: JSON.
CREATE TABLE device_write (
  property INTEGER PRIMARY KEY, value BLOB NOT NULL, written_at REAL NOT NULL, expires_at REAL NOT NULL
) STRICT;

-- The name this gateway gave to the broker's session; message ids are only valid within a session.
CREATE TABLE device_session (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL) STRICT;

-- The messages of the newest commit, in one row. If the gateway is killed then, the broker may miss their PUBACK and send them
-- again: matching messages are accepted and marked. marks: per message its id (2 bytes) and a hash of topic and payload (16).
CREATE TABLE device_message (number INTEGER PRIMARY KEY, session TEXT NOT NULL, marks BLOB NOT NULL) STRICT;

-- Counters that survive a restart. sessions: sessions begun at a broker; gaps: sessions lost; broker_count: dropped messages
-- last reported by the broker (-1: none yet), broker_dropped: the sum over its restarts; budget_day, budget_bytes: bytes
-- forwarded on a day (days since 1970).
CREATE TABLE device_counter (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO device_counter (name, value) VALUES
  ('sessions', 0), ('gaps', 0), ('broker_count', -1), ('broker_dropped', 0), ('budget_day', 0), ('budget_bytes', 0);

-- Aggregation windows: their readings are forwarded as one. time, value: the aggregate so far; begin, length: seconds.
CREATE TABLE device_window (
  property INTEGER NOT NULL, begin REAL NOT NULL, length REAL NOT NULL, aggregate TEXT NOT NULL,
  time REAL NOT NULL, value REAL NOT NULL, count INTEGER NOT NULL, unit TEXT, due_at REAL NOT NULL,
  PRIMARY KEY (property, begin, length, aggregate)
) STRICT, WITHOUT ROWID;

-- Per property: the reading forwarded last, and the one held until due_at. late: for readings of a backlog.
CREATE TABLE device_gate (
  property INTEGER NOT NULL, late INTEGER NOT NULL, sent_time REAL, sent_value REAL, held_time REAL, held_value REAL,
  unit TEXT, due_at REAL NOT NULL, PRIMARY KEY (property, late)
) STRICT, WITHOUT ROWID;
