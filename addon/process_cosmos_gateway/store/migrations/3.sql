-- outbox --------------------------------------------------------------------------------------------------------------

-- What was remembered so far (0 or 1 in this column) is older than anything that comes.
ALTER TABLE outbox_id RENAME COLUMN result TO generation;
CREATE TABLE outbox_id_sweep (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL) STRICT;
INSERT INTO outbox_id_sweep VALUES (1, '');
INSERT INTO outbox_counter VALUES ('id_generation', 2), ('id_generation_size', 0), ('id_oldest', 1), ('own_id_ms', 0);
