-- The gateway's whole memory. One section per owner; only the owner's package reads and writes its tables.
-- Times are seconds since 1970 (REAL). Once a version is released, a change here needs the same change in migrations/.

-- store ---------------------------------------------------------------------------------------------------------------

CREATE TABLE meta (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- Rows found damaged, kept for a person to look at. row: its values as a JSON list, bytes in hexadecimal.
CREATE TABLE quarantine (
  number INTEGER PRIMARY KEY AUTOINCREMENT, origin TEXT NOT NULL, row BLOB NOT NULL, set_aside_at REAL NOT NULL
) STRICT;

-- outbox --------------------------------------------------------------------------------------------------------------

-- One table per priority. AUTOINCREMENT: a number never comes back, also when the table was empty in between.
-- only_for: the one destination that gets it. slot: a newer event of it makes this one needless, if room is short.
-- checksum: CRC-32 of body. body: the encoded CloudEvent.
CREATE TABLE outbox_urgent (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  only_for TEXT, slot TEXT, replayed INTEGER NOT NULL DEFAULT 0, accepted_at REAL NOT NULL, expires_at REAL,
  checksum INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_urgent_only ON outbox_urgent (id) WHERE only_for IS NOT NULL;

CREATE TABLE outbox_change (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  only_for TEXT, slot TEXT, replayed INTEGER NOT NULL DEFAULT 0, accepted_at REAL NOT NULL, expires_at REAL,
  checksum INTEGER NOT NULL, body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_change_slot ON outbox_change (slot, sequence) WHERE slot IS NOT NULL;

-- One reading a row; packed when they leave. value: a number, or JSON of a text or a truth. checksum: CRC-32 of the rest
-- and of the series' own words.
CREATE TABLE outbox_reading (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  series INTEGER NOT NULL, time REAL NOT NULL, value ANY NOT NULL, accepted_at REAL NOT NULL,
  checksum INTEGER NOT NULL
) STRICT;

CREATE TABLE outbox_series (
  number INTEGER PRIMARY KEY, device TEXT NOT NULL, property TEXT NOT NULL, unit TEXT NOT NULL,
  UNIQUE (device, property, unit)
) STRICT;

-- What a destination's next event of readings holds: decided before its first try, so that a repeat is the same.
CREATE TABLE outbox_reading_batch (
  destination TEXT PRIMARY KEY, id TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0, strikes INTEGER NOT NULL DEFAULT 0, delivered_then INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The id of the newest pack there ever was: the next is above it, whatever the clock says.
CREATE TABLE outbox_last_reading_batch (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;

-- Alarms for which a destination's share had no room; they go to the queue in this order as soon as there is some.
-- asked: it is for this destination only.
CREATE TABLE outbox_overflow (
  number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL,
  asked INTEGER NOT NULL, accepted_at REAL NOT NULL, expires_at REAL, checksum INTEGER NOT NULL,
  body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_overflow_destination ON outbox_overflow (destination, number);
CREATE INDEX outbox_overflow_key ON outbox_overflow (destination, key, asked);
CREATE INDEX outbox_overflow_id ON outbox_overflow (id);
CREATE INDEX outbox_overflow_expiry ON outbox_overflow (expires_at) WHERE expires_at IS NOT NULL;

-- Every id accepted, also after delivery, so that a repeat is known. hash: 8 bytes of the content.
-- generation: counts arrivals, not one by one; the oldest are forgotten first, whatever their ids.
CREATE TABLE outbox_id (id TEXT PRIMARY KEY, hash BLOB NOT NULL, generation INTEGER NOT NULL) STRICT, WITHOUT ROWID;

-- Up to this id the oldest generation is removed.
CREATE TABLE outbox_id_sweep (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
INSERT INTO outbox_id_sweep VALUES (1, '');

-- delivered: how many events this destination has taken.
CREATE TABLE outbox_destination (name TEXT PRIMARY KEY, delivered INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;

CREATE TABLE outbox_kind (kind TEXT NOT NULL, destination TEXT NOT NULL, PRIMARY KEY (kind, destination))
STRICT, WITHOUT ROWID;

-- What a destination wants of a priority is settled up to here, but for the exceptions.
CREATE TABLE outbox_cursor (
  destination TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL, PRIMARY KEY (destination, priority)
) STRICT, WITHOUT ROWID;

-- Passed by the cursor, not settled. failures = 0: held back. strikes: failures with a delivery since the one before.
CREATE TABLE outbox_exception (
  destination TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0, strikes INTEGER NOT NULL DEFAULT 0, delivered_then INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (destination, priority, sequence)
) STRICT, WITHOUT ROWID;

-- Ahead of the cursor, and not for this destination any more, or parked for it: others may still wait for it.
CREATE TABLE outbox_skip (
  destination TEXT NOT NULL, priority TEXT NOT NULL, sequence INTEGER NOT NULL,
  PRIMARY KEY (destination, priority, sequence)
) STRICT, WITHOUT ROWID;

-- What waits for a destination, parked alarms aside. Counted as it happens: adding up a million rows takes a second.
CREATE TABLE outbox_backlog (
  destination TEXT NOT NULL, priority TEXT NOT NULL, events INTEGER NOT NULL, bytes INTEGER NOT NULL,
  PRIMARY KEY (destination, priority)
) STRICT, WITHOUT ROWID;

-- Everything that was accepted and is not sent to somebody who wanted it, for ever.
CREATE TABLE outbox_drop (
  priority TEXT NOT NULL, reason TEXT NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (priority, reason)
) STRICT, WITHOUT ROWID;

-- Refused for good: a copy, out of everybody's way. attempts: tries before. reply: what the far side said of it.
CREATE TABLE outbox_rejected (
  number INTEGER PRIMARY KEY AUTOINCREMENT, destination TEXT NOT NULL, priority TEXT NOT NULL,
  code TEXT NOT NULL, message TEXT NOT NULL, reply TEXT, attempts INTEGER NOT NULL, rejected_at REAL NOT NULL,
  id TEXT NOT NULL, type TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL
) STRICT;

-- Rows of the tables of these names; ids met again with other content, and forgotten for want of room. id_generation: which
-- one ids belong to that arrive now, id_generation_size: how many it has, id_oldest: the one that is removed next.
-- own_id_ms: the time in the newest id this gateway has made for an event.
CREATE TABLE outbox_counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL DEFAULT 0) STRICT, WITHOUT ROWID;
INSERT INTO outbox_counter (name) VALUES
  ('urgent'), ('change'), ('reading'), ('overflow'), ('overflow_bytes'), ('id'), ('rejected'), ('conflict'), ('forgotten'),
  ('id_generation_size'), ('id_oldest'), ('own_id_ms');
INSERT INTO outbox_counter VALUES ('id_generation', 1);

-- alerts ---------------------------------------------------------------------------------------------------------

-- One value a key: the position applied (run, n), the steady clock (offset, newest), the last stop (stop_announced), and
-- the epoch in which the integration was last caught up with.
CREATE TABLE alert_state (key TEXT PRIMARY KEY, value ANY NOT NULL) STRICT, WITHOUT ROWID;

-- The replica. body: contract Replica as JSON. notify_at, until_at, changed_at: steady time (alerts/steady_clock.py).
-- event: the newest transition's event as JSON, for a destination that joins later.
CREATE TABLE alert (
  id TEXT PRIMARY KEY, state TEXT NOT NULL, alive INTEGER NOT NULL, run TEXT NOT NULL, n INTEGER NOT NULL,
  notify_at REAL, until_at REAL NOT NULL, changed_at REAL NOT NULL, body BLOB NOT NULL, event BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX alert_alive ON alert (id) WHERE alive = 1;
CREATE INDEX alert_closed ON alert (changed_at) WHERE alive = 0;

-- due, due_away, settled_at: steady time. event: id of the asked event.
CREATE TABLE notification_request (
  alert TEXT NOT NULL, revision INTEGER NOT NULL, level INTEGER NOT NULL, round INTEGER NOT NULL,
  recipient TEXT NOT NULL, due REAL NOT NULL, due_away REAL NOT NULL, state TEXT NOT NULL, event TEXT NOT NULL,
  settled_at REAL, PRIMARY KEY (alert, revision, level, round, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_request_event ON notification_request (event);
CREATE INDEX notification_request_queued ON notification_request (recipient) WHERE state = 'queued';

-- Answers and acknowledgements from outside, in the order of their arrival. id: destination/item, joined names. given_at:
-- steady time. settled: the integration has recorded or refused it.
CREATE TABLE alert_proposal (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, alert TEXT NOT NULL, given_at REAL NOT NULL,
  settled INTEGER NOT NULL DEFAULT 0, revision INTEGER, answer TEXT, acknowledge_for REAL, by TEXT NOT NULL
) STRICT;
CREATE INDEX alert_proposal_open ON alert_proposal (alert) WHERE settled = 0;
CREATE INDEX alert_proposal_settled ON alert_proposal (number) WHERE settled = 1;

-- destinations --------------------------------------------------------------------------------------------------------

-- settings: JSON, with secrets (URL, header, key, certificate). proven: something was delivered with these settings.
CREATE TABLE destination (
  name TEXT PRIMARY KEY, kind TEXT NOT NULL, settings BLOB NOT NULL,
  proven INTEGER NOT NULL DEFAULT 0, inbox_cursor INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The token of a cloud endpoint's newest reply that is settled; a copy of this database goes on from an older one.
CREATE TABLE destination_token (name TEXT PRIMARY KEY, token TEXT NOT NULL) STRICT, WITHOUT ROWID;

-- devices -------------------------------------------------------------------------------------------------------------

-- description: the Thing Description as it came, empty once withdrawn (its readings stay until they are too old).
CREATE TABLE device (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, topic TEXT NOT NULL, description BLOB NOT NULL, online INTEGER
) STRICT;

-- value: JSON, the newest one heard, and its time. bytes: what its readings take, here because this row changes with them.
CREATE TABLE device_property (
  number INTEGER PRIMARY KEY, device INTEGER NOT NULL, name TEXT NOT NULL, value BLOB, time REAL,
  bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (device, name)
) STRICT;

-- Raw readings, merged and never overwritten: the same value at the same time is one row, another value is another row.
CREATE TABLE device_reading (
  property INTEGER NOT NULL, time REAL NOT NULL, value ANY NOT NULL, received_at REAL NOT NULL,
  PRIMARY KEY (property, time, value)
) STRICT, WITHOUT ROWID;

-- Property writes not yet confirmed: the newest replaces an older one. value: JSON.
CREATE TABLE device_write (
  property INTEGER PRIMARY KEY, value BLOB NOT NULL, written_at REAL NOT NULL, expires_at REAL NOT NULL
) STRICT;

-- The session the broker keeps for us has a name of ours: message ids mean something only within it.
CREATE TABLE device_session (one INTEGER PRIMARY KEY CHECK (one = 1), name TEXT NOT NULL) STRICT;

-- The messages of the newest commit, one row: the broker may have missed their PUBACK if the gateway is killed then, and what
-- matches them is accepted again, marked. marks: of each message its id (2 bytes) and a hash of topic and payload (16).
CREATE TABLE device_message (number INTEGER PRIMARY KEY, session TEXT NOT NULL, marks BLOB NOT NULL) STRICT;

-- Numbers that outlive a start. sessions: begun at a broker; gaps: of them lost; broker_count: what the broker said last that
-- it dropped (-1: nothing yet), broker_dropped: of all its lives; budget_…: what left on a day since 1970.
CREATE TABLE device_counter (name TEXT PRIMARY KEY, value REAL NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO device_counter (name, value) VALUES
  ('sessions', 0), ('gaps', 0), ('broker_count', -1), ('broker_dropped', 0), ('budget_day', 0), ('budget_bytes', 0);

-- Readings of one window that will leave as one. time, value: what they come to so far; begin, length: seconds.
CREATE TABLE device_window (
  property INTEGER NOT NULL, begin REAL NOT NULL, length REAL NOT NULL, aggregate TEXT NOT NULL,
  time REAL NOT NULL, value REAL NOT NULL, count INTEGER NOT NULL, unit TEXT, due_at REAL NOT NULL,
  PRIMARY KEY (property, begin, length, aggregate)
) STRICT, WITHOUT ROWID;

-- What of a property left the site last, and what has to wait until due_at. late: of a backlog.
CREATE TABLE device_gate (
  property INTEGER NOT NULL, late INTEGER NOT NULL, sent_time REAL, sent_value REAL, held_time REAL, held_value REAL,
  unit TEXT, due_at REAL NOT NULL, PRIMARY KEY (property, late)
) STRICT, WITHOUT ROWID;
