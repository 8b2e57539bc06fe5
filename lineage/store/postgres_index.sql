-- Indexes that schemas of before lack; run at each opening where they do.
-- Texts may be longer than a B-tree takes, so they stand here by their hash: whoever looks for one
-- compares both. What is unique is seen to by the appender, which is alone.
-- `IS NOT NULL` holds of every row. It keeps an index from queries that do not ask for its column:
-- in tables that were never analysed the planner takes reading a whole index for as cheap.

DROP INDEX IF EXISTS artifact_at_version;
DROP INDEX IF EXISTS artifact_at_content;
DROP INDEX IF EXISTS entity_at_source;
DROP INDEX IF EXISTS entity_of_name;
CREATE INDEX IF NOT EXISTS version_of_uri ON entity (hashtextextended(source_uri, 0), version)
    WHERE kind = 'Artifact' AND source_uri IS NOT NULL;
CREATE INDEX IF NOT EXISTS content_of_uri ON entity (hashtextextended(source_uri, 0), content_hash)
    WHERE kind = 'Artifact' AND source_uri IS NOT NULL;
CREATE INDEX IF NOT EXISTS artifact_content_type ON entity (content_hash, type, id)
    WHERE kind = 'Artifact' AND content_hash <> '';
CREATE INDEX IF NOT EXISTS source_of_entity ON entity (hashtextextended(source_uri, 0))
    WHERE kind <> 'Artifact' AND source_uri <> '';
CREATE INDEX IF NOT EXISTS name_of_entity ON entity (hashtextextended(name, 0), id)
    WHERE name IS NOT NULL;
