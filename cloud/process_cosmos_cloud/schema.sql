-- Every arrival of an event in order, including repeats.
CREATE TABLE arrival (
  sequence INTEGER PRIMARY KEY,
  site TEXT NOT NULL,
  id TEXT NOT NULL,
  arrived_at REAL NOT NULL,
  body TEXT NOT NULL
) STRICT;

-- Each event once, permanently. The key begins with the ULID: ids grow, so that inserts append.
CREATE TABLE event (
  id TEXT NOT NULL,
  source TEXT NOT NULL,
  arrival INTEGER NOT NULL,
  PRIMARY KEY (id, source)
) STRICT, WITHOUT ROWID;

-- Answers and acknowledgements given at the endpoint, to be fetched by the site.
CREATE TABLE inbox (
  cursor INTEGER PRIMARY KEY AUTOINCREMENT,
  id TEXT NOT NULL,
  site TEXT NOT NULL,
  alert TEXT NOT NULL,
  given_by TEXT NOT NULL,
  given_at REAL NOT NULL,
  revision INTEGER,
  answer TEXT,
  acknowledge_for REAL
) STRICT;
-- Without these indexes each poll and each closed alert would read the inboxes of all sites.
CREATE INDEX inbox_order ON inbox (site, cursor);
CREATE INDEX inbox_alert ON inbox (site, alert);

-- The greatest cursor up to which each site has fetched its inbox. A site restored from a backup may ask with an earlier one.
CREATE TABLE polled (site TEXT PRIMARY KEY, cursor INTEGER NOT NULL) STRICT;

-- One-time codes. Only the hash of the secret is stored. site: the only site the code is valid for.
CREATE TABLE code (
  sha256 TEXT PRIMARY KEY,
  expires_at REAL NOT NULL,
  used_at REAL,
  site TEXT
) STRICT, WITHOUT ROWID;

-- tokens: JSON array of the newest reply tokens; number: the number of the newest token ever given. refused: the code with
-- which all requests of the site are refused until it enrols again; reason: the sentence.
CREATE TABLE site (
  site TEXT PRIMARY KEY,
  enrolled_at REAL NOT NULL,
  tokens TEXT NOT NULL DEFAULT '[""]',
  number INTEGER NOT NULL DEFAULT 0,
  epoch TEXT,
  address TEXT,
  heard_at REAL,
  refused TEXT,
  reason TEXT
) STRICT, WITHOUT ROWID;

-- The epochs of a site since its enrolment. An epoch that returns after a newer one belongs to a second gateway.
CREATE TABLE epoch (site TEXT NOT NULL, epoch TEXT NOT NULL, PRIMARY KEY (site, epoch)) STRICT, WITHOUT ROWID;

-- refused: the code with which requests with this certificate are refused.
CREATE TABLE certificate (
  serial TEXT PRIMARY KEY,
  site TEXT NOT NULL,
  issued_at REAL NOT NULL,
  refused TEXT
) STRICT, WITHOUT ROWID;
-- Without these indexes each batch and each poll would read all certificates the site has ever had.
CREATE INDEX certificate_order ON certificate (site, issued_at);
CREATE INDEX certificate_good ON certificate (site) WHERE refused IS NULL;

-- Certificates (PEM) issued as renewals and not used yet, by the SHA-256 of the request. old, new: serial numbers.
CREATE TABLE renewal (
  request TEXT PRIMARY KEY, old TEXT NOT NULL, new TEXT NOT NULL UNIQUE, certificate TEXT NOT NULL
) STRICT;
CREATE INDEX renewal_old ON renewal (old);

-- Raw readings, permanently. value: REAL, or JSON of another type. Repeats have the same key; two rows with the same series
-- and time are a conflict.
CREATE TABLE series (
  number INTEGER PRIMARY KEY,
  site TEXT NOT NULL,
  device TEXT NOT NULL,
  property TEXT NOT NULL,
  unit TEXT,
  UNIQUE (site, device, property)
) STRICT;

CREATE TABLE reading (
  series INTEGER NOT NULL,
  time REAL NOT NULL,
  value ANY NOT NULL,
  arrival INTEGER NOT NULL,
  PRIMARY KEY (series, time, value)
) STRICT, WITHOUT ROWID;

CREATE TABLE setting (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
