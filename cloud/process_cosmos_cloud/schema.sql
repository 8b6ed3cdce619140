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

-- One-time codes: only the hash of the secret is kept. `site`: the code is for this site alone.
CREATE TABLE code (
  sha256 TEXT PRIMARY KEY,
  expires_at REAL NOT NULL,
  used_at REAL,
  site TEXT
) STRICT, WITHOUT ROWID;

-- tokens: a JSON array of the newest ones given with replies; number: of the newest ever. refused: the code with which
-- nothing more is taken from the site, reason: the sentence to it; until it enrols again.
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

-- The epochs a site has had since it enrolled: one that comes back after a newer one is a second gateway.
CREATE TABLE epoch (site TEXT NOT NULL, epoch TEXT NOT NULL, PRIMARY KEY (site, epoch)) STRICT, WITHOUT ROWID;

-- refused: the code with which its bearer is sent away.
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

-- Raw readings out of packs, for ever. value: REAL, or JSON of what is no number. The key makes one of repeats and keeps
-- what contradicts: two rows of one series and time are a conflict.
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
