-- The log, which is the truth, in a schema of its own.

CREATE TABLE log (
    seq       BIGINT PRIMARY KEY,
    time_us   BIGINT NOT NULL,
    actor     TEXT COLLATE "C" NOT NULL,
    kind      TEXT COLLATE "C" NOT NULL,
    event_uid TEXT COLLATE "C" NOT NULL UNIQUE,
    body      BYTEA NOT NULL,
    prev      BYTEA NOT NULL,
    hash      BYTEA NOT NULL
);

-- Bodies are JSON that is read whole; compressing them on every commit costs more than it saves.
ALTER TABLE log ALTER COLUMN body SET STORAGE EXTERNAL;

CREATE FUNCTION refuse_change_of_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the lineage log is append-only: an event is never altered or removed';
END
$$;

CREATE TRIGGER log_is_never_changed BEFORE UPDATE OR DELETE OR TRUNCATE ON log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change_of_log();

-- The end of the log, so that a missing last event is noticed; appenders lock it, which makes
-- the order of sequence the order of commit.
CREATE TABLE head (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    seq     BIGINT NOT NULL,
    time_us BIGINT NOT NULL,
    hash    BYTEA NOT NULL
);

INSERT INTO head (one, seq, time_us, hash) VALUES (1, 0, 0, decode(repeat('00', 32), 'hex'));

-- The graph, projected from the log: every table here can be made anew from it.
-- An open end (valid_to_seq IS NULL) means valid now.

CREATE TABLE entity (
    id           BIGINT PRIMARY KEY,
    uid          TEXT COLLATE "C" NOT NULL UNIQUE,
    kind         TEXT COLLATE "C" NOT NULL,
    type         TEXT COLLATE "C" NOT NULL,
    name         TEXT COLLATE "C" NOT NULL,
    source_uri   TEXT COLLATE "C" NOT NULL,
    content_hash TEXT COLLATE "C" NOT NULL,
    version      BIGINT NOT NULL,
    state        TEXT COLLATE "C" NOT NULL,
    properties   TEXT COLLATE "C" NOT NULL,
    facets       TEXT COLLATE "C" NOT NULL,
    created_us   BIGINT NOT NULL,
    modified_us  BIGINT NOT NULL,
    created_seq  BIGINT NOT NULL,
    modified_seq BIGINT NOT NULL
);

CREATE INDEX entity_type ON entity (type);

-- An index by destination and one by source: each direction of a walk reads one of the two
-- and nothing else.
CREATE TABLE edge (
    dst            BIGINT NOT NULL,
    src            BIGINT NOT NULL,
    type           TEXT COLLATE "C" NOT NULL,
    valid_from_seq BIGINT NOT NULL,
    valid_to_seq   BIGINT,
    PRIMARY KEY (dst, src, type, valid_from_seq) INCLUDE (valid_to_seq)
);

CREATE INDEX edge_downstream ON edge (src, dst, type) INCLUDE (valid_from_seq, valid_to_seq);
-- What an event began or ended, for those who follow the graph.
CREATE INDEX edge_begun ON edge (valid_from_seq);
CREATE INDEX edge_ended ON edge (valid_to_seq) WHERE valid_to_seq IS NOT NULL;

-- The events that changed an entity after the one that made it.
CREATE TABLE amendment (
    entity BIGINT NOT NULL,
    seq    BIGINT NOT NULL,
    PRIMARY KEY (entity, seq)
);

-- What was said last of the columns of an entity, by whom: its place in time.
CREATE TABLE column_set (
    dst    BIGINT NOT NULL,
    by     TEXT COLLATE "C" NOT NULL,
    rank   BIGINT NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (dst, by)
);

CREATE TABLE column_edge (
    dst            BIGINT NOT NULL,
    dst_column     TEXT COLLATE "C" NOT NULL,
    src            BIGINT NOT NULL,
    src_column     TEXT COLLATE "C" NOT NULL,
    by             TEXT COLLATE "C" NOT NULL,
    type           TEXT COLLATE "C" NOT NULL,
    subtype        TEXT COLLATE "C" NOT NULL,
    valid_from_seq BIGINT NOT NULL,
    valid_to_seq   BIGINT,
    description    TEXT COLLATE "C" NOT NULL,
    masking        INTEGER NOT NULL,
    properties     TEXT COLLATE "C" NOT NULL
);

CREATE INDEX column_upstream ON column_edge (dst);
CREATE INDEX column_downstream ON column_edge (src);

CREATE TABLE run (
    uid            TEXT COLLATE "C" NOT NULL,
    valid_from_seq BIGINT NOT NULL,
    valid_to_seq   BIGINT,
    entity         BIGINT NOT NULL,
    state          TEXT COLLATE "C" NOT NULL,
    started_us     BIGINT,
    ended_us       BIGINT,
    properties     TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (uid, valid_from_seq)
);

CREATE INDEX run_entity ON run (entity);

CREATE TABLE tag (
    entity         BIGINT NOT NULL,
    key            TEXT COLLATE "C" NOT NULL,
    valid_from_seq BIGINT NOT NULL,
    valid_to_seq   BIGINT,
    value          TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (entity, key, valid_from_seq)
);

CREATE INDEX tag_key ON tag (key);

CREATE TABLE alias (
    alias          TEXT COLLATE "C" NOT NULL,
    entity         BIGINT NOT NULL,
    valid_from_seq BIGINT NOT NULL
);

CREATE INDEX alias_name ON alias USING hash (alias);
