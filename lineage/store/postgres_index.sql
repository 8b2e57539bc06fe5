-- Indexes that schemas of before lack; run at each opening where they do.
-- Texts may be longer than a B-tree takes, so they stand here by their hash: whoever looks for one
-- compares both. What is unique is seen to by the appender, which is alone.

CREATE INDEX IF NOT EXISTS artifact_at_version ON entity (hashtextextended(source_uri, 0), version)
    WHERE kind = 'Artifact';
CREATE INDEX IF NOT EXISTS artifact_at_content ON entity (hashtextextended(source_uri, 0), content_hash)
    WHERE kind = 'Artifact';
CREATE INDEX IF NOT EXISTS artifact_content_type ON entity (content_hash, type, id)
    WHERE kind = 'Artifact' AND content_hash <> '';
CREATE INDEX IF NOT EXISTS entity_at_source ON entity (hashtextextended(source_uri, 0))
    WHERE kind <> 'Artifact' AND source_uri <> '';
CREATE INDEX IF NOT EXISTS entity_of_name ON entity (hashtextextended(name, 0), id);
