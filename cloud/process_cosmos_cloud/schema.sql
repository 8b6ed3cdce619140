-- Every arrival of an event, in order, repeats included; written before repeats are dropped.
CREATE TABLE arrival (
  sequence INTEGER PRIMARY KEY,
  site TEXT NOT NULL,
  id TEXT NOT NULL,
  arrived_at REAL NOT NULL,
  body TEXT NOT NULL
) STRICT;

-- The events themselves, each once for ever. The key begins with the ULID: ids grow, so inserts append.
CREATE TABLE event (
  id TEXT NOT NULL,
  source TEXT NOT NULL,
  arrival INTEGER NOT NULL,
  PRIMARY KEY (id, source)
) STRICT, WITHOUT ROWID;

-- What people at the cloud want told to a site.
CREATE TABLE inbox (
  cursor INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  site TEXT NOT NULL,
  escalation TEXT NOT NULL,
  given_by TEXT NOT NULL,
  given_at REAL NOT NULL,
  ring INTEGER,
  answer TEXT,
  acknowledge_for REAL
) STRICT;

-- One-time codes: only the hash of the secret is kept. `site`: the code is for this site alone.
CREATE TABLE code (
  sha256 TEXT PRIMARY KEY,
  expires_at REAL NOT NULL,
  used_at REAL,
  site TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE site (
  site TEXT PRIMARY KEY,
  enrolled_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
