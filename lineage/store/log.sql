-- The log, which is the truth.

CREATE TABLE log (
    seq       INTEGER PRIMARY KEY,
    time_us   INTEGER NOT NULL,
    actor     TEXT NOT NULL,
    kind      TEXT NOT NULL,
    event_uid TEXT NOT NULL UNIQUE,
    body      BLOB NOT NULL,
    prev      BLOB NOT NULL,
    hash      BLOB NOT NULL
);

CREATE TRIGGER log_is_never_updated BEFORE UPDATE ON log
BEGIN
    SELECT RAISE(ABORT, 'the lineage log is append-only: an event is never altered');
END;

CREATE TRIGGER log_is_never_deleted BEFORE DELETE ON log
BEGIN
    SELECT RAISE(ABORT, 'the lineage log is append-only: an event is never removed');
END;

-- The end of the log, so that a missing last event is noticed.
CREATE TABLE head (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    seq     INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    hash    BLOB NOT NULL
);

INSERT INTO head (one, seq, time_us, hash) VALUES (1, 0, 0, zeroblob(32));
