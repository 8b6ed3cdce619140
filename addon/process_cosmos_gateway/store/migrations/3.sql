-- outbox --------------------------------------------------------------------------------------------------------------

-- What was remembered so far (0 or 1 in this column) is older than anything that comes.
ALTER TABLE outbox_id RENAME COLUMN result TO generation;
CREATE TABLE outbox_id_sweep (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
INSERT INTO outbox_id_sweep VALUES (1, '');
INSERT INTO outbox_counter VALUES ('id_generation', 2), ('id_generation_size', 0), ('id_oldest', 1), ('own_id_ms', 0);

-- escalations ---------------------------------------------------------------------------------------------------------

-- Names are escaped where they are joined: an id was item@destination. One that is not settled stays, because the
-- integration may be about to settle it; so does one of which nobody can say what it was joined of.
DROP INDEX escalation_proposal_open;
ALTER TABLE escalation_proposal RENAME TO before_proposal;
CREATE TABLE escalation_proposal (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, escalation TEXT NOT NULL, given_at REAL NOT NULL,
  settled INTEGER NOT NULL DEFAULT 0, ring INTEGER, answer TEXT, acknowledge_for REAL, by TEXT NOT NULL
) STRICT;
INSERT INTO escalation_proposal (id, escalation, given_at, settled, ring, answer, acknowledge_for, by)
  SELECT iif(
      settled = 1 AND id NOT GLOB '*@*@*' AND id NOT GLOB '*[%/]*',
      substr(id, instr(id, '@') + 1) || '/' || substr(id, 1, instr(id, '@') - 1), id
    ), escalation, given_at, settled, ring, answer, acknowledge_for, by
  FROM before_proposal ORDER BY given_at;
DROP TABLE before_proposal;
CREATE INDEX escalation_proposal_open ON escalation_proposal (escalation) WHERE settled = 0;
CREATE INDEX escalation_proposal_settled ON escalation_proposal (number) WHERE settled = 1;
