-- The graph, projected from the log: every table here can be made anew from it.
-- An open end (valid_to_seq IS NULL) means valid now.

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
    facets       TEXT NOT NULL,
    created_us   INTEGER NOT NULL,
    modified_us  INTEGER NOT NULL,
    created_seq  INTEGER NOT NULL,
    modified_seq INTEGER NOT NULL
);

CREATE INDEX entity_type_name ON entity (type, name);
CREATE INDEX entity_name ON entity (name);
CREATE UNIQUE INDEX artifact_identity ON entity (source_uri, content_hash) WHERE kind = 'Artifact';
CREATE UNIQUE INDEX artifact_version ON entity (source_uri, version) WHERE kind = 'Artifact';
CREATE INDEX artifact_content ON entity (content_hash)
    WHERE kind = 'Artifact' AND content_hash <> '';
CREATE INDEX source ON entity (source_uri) WHERE kind <> 'Artifact' AND source_uri <> '';

-- Clustered by destination, with an index by source: each direction of a walk reads one
-- of the two and nothing else.
CREATE TABLE edge (
    dst            INTEGER NOT NULL,
    src            INTEGER NOT NULL,
    type           TEXT NOT NULL,
    valid_from_seq INTEGER NOT NULL,
    valid_to_seq   INTEGER,
    PRIMARY KEY (dst, src, type, valid_from_seq)
) WITHOUT ROWID;

CREATE INDEX edge_downstream ON edge (src, dst, type, valid_from_seq, valid_to_seq);
-- What an event began or ended, for those who follow the graph.
CREATE INDEX edge_begun ON edge (valid_from_seq);
CREATE INDEX edge_ended ON edge (valid_to_seq) WHERE valid_to_seq IS NOT NULL;

-- The events that changed an entity after the one that made it.
CREATE TABLE amendment (
    entity INTEGER NOT NULL,
    seq    INTEGER NOT NULL,
    PRIMARY KEY (entity, seq)
) WITHOUT ROWID;

-- What was said last of the columns of an entity, by whom: its place in time.
CREATE TABLE column_set (
    dst    INTEGER NOT NULL,
    by     TEXT NOT NULL,
    rank   INTEGER NOT NULL,
    digest TEXT NOT NULL,
    PRIMARY KEY (dst, by)
) WITHOUT ROWID;

CREATE TABLE column_edge (
    dst            INTEGER NOT NULL,
    dst_column     TEXT NOT NULL,
    src            INTEGER NOT NULL,
    src_column     TEXT NOT NULL,
    by             TEXT NOT NULL,
    type           TEXT NOT NULL,
    subtype        TEXT NOT NULL,
    valid_from_seq INTEGER NOT NULL,
    valid_to_seq   INTEGER,
    description    TEXT NOT NULL,
    masking        INTEGER NOT NULL,
    properties     TEXT NOT NULL,
    PRIMARY KEY (dst, dst_column, src, src_column, by, type, subtype, valid_from_seq)
) WITHOUT ROWID;

CREATE INDEX column_downstream ON column_edge (src, src_column);

CREATE TABLE run (
    uid            TEXT NOT NULL,
    valid_from_seq INTEGER NOT NULL,
    valid_to_seq   INTEGER,
    entity         INTEGER NOT NULL,
    state          TEXT NOT NULL,
    started_us     INTEGER,
    ended_us       INTEGER,
    properties     TEXT NOT NULL,
    PRIMARY KEY (uid, valid_from_seq)
) WITHOUT ROWID;

CREATE INDEX run_entity ON run (entity);

CREATE TABLE tag (
    entity         INTEGER NOT NULL,
    key            TEXT NOT NULL,
    valid_from_seq INTEGER NOT NULL,
    valid_to_seq   INTEGER,
    value          TEXT NOT NULL,
    PRIMARY KEY (entity, key, valid_from_seq)
) WITHOUT ROWID;

CREATE INDEX tag_value ON tag (key, value);

CREATE TABLE alias (
    alias          TEXT PRIMARY KEY,
    entity         INTEGER NOT NULL,
    valid_from_seq INTEGER NOT NULL
) WITHOUT ROWID;
