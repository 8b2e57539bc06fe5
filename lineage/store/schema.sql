-- The lineage file: the log is the truth; entity and edge are projected from it.

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

CREATE TABLE entity (
    id           INTEGER PRIMARY KEY,
    uid          TEXT NOT NULL UNIQUE,
    kind         TEXT NOT NULL,
    type         TEXT NOT NULL,
    name         TEXT NOT NULL,
    source_uri   TEXT NOT NULL,
    content_hash TEXT NOT NULL,
    version      INTEGER NOT NULL,
    state        TEXT NOT NULL,
    properties   TEXT NOT NULL,
    created_us   INTEGER NOT NULL,
    modified_us  INTEGER NOT NULL,
    created_seq  INTEGER NOT NULL,
    modified_seq INTEGER NOT NULL
);

CREATE INDEX entity_type_name ON entity (type, name);
CREATE INDEX entity_name ON entity (name);
CREATE UNIQUE INDEX artifact_identity ON entity (source_uri, content_hash) WHERE kind = 'Artifact';
CREATE UNIQUE INDEX artifact_version ON entity (source_uri, version) WHERE kind = 'Artifact';
CREATE INDEX source ON entity (source_uri) WHERE kind <> 'Artifact' AND source_uri <> '';

-- Clustered by destination, with an index by source: each direction of a walk reads one
-- of the two and nothing else. An open end (valid_to_seq IS NULL) means valid now.
CREATE TABLE edge (
    dst            INTEGER NOT NULL,
    src            INTEGER NOT NULL,
    type           TEXT NOT NULL,
    valid_from_seq INTEGER NOT NULL,
    valid_to_seq   INTEGER,
    PRIMARY KEY (dst, src, type, valid_from_seq)
) WITHOUT ROWID;

CREATE INDEX edge_downstream ON edge (src, dst, type, valid_from_seq, valid_to_seq);

INSERT INTO head (one, seq, time_us, hash) VALUES (1, 0, 0, zeroblob(32));
