-- The number of the last commit that changed the row, so that a reader of the list can ask for what changed. 0: before
-- there were such numbers.
ALTER TABLE files ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;

-- One row: the number of the last commit. Numbers can be compared within one history, and each opening begins another, as
-- the file may be an older copy.
CREATE TABLE revision (
    history      BIGINT NOT NULL,
    number       BIGINT NOT NULL,
    -- Removals up to this number are no longer listed.
    forgotten_to BIGINT NOT NULL,
    checksum     BIGINT NOT NULL
);

-- Files that left the list, the last ones only, and the number of the commit that removed them.
CREATE TABLE removed_files (
    id       TEXT PRIMARY KEY,
    revision BIGINT NOT NULL,
    checksum BIGINT NOT NULL
);

-- What the file holds rows of, and the store of objects in which it lies, by its name in the configuration.
ALTER TABLE files ADD COLUMN table_name TEXT NOT NULL DEFAULT 'spans';
ALTER TABLE files ADD COLUMN object_store TEXT NOT NULL DEFAULT 'local';

-- Spans that were left out on purpose, with the whole traces that they are of.
ALTER TABLE files ADD COLUMN left_out_spans BIGINT NOT NULL DEFAULT 0;
