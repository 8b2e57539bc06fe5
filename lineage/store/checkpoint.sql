-- What the log came to at some events; hashes in hex, keys and signatures too. One script for
-- every database, run at each opening: files of before have no such table.

CREATE TABLE IF NOT EXISTS checkpoint (
    seq        BIGINT PRIMARY KEY,
    root       TEXT NOT NULL,
    head       TEXT NOT NULL,
    time_us    BIGINT NOT NULL,
    frontier   TEXT NOT NULL,
    public_key TEXT NOT NULL,
    signature  TEXT NOT NULL
);
