-- Files describe themselves now, so a row holds no names and no filter, and reading all rows is quick. What older files
-- were described by stays where it was, under another name, and is read one row at a time.
DROP INDEX files_by_retirement;
ALTER TABLE files RENAME TO described_files;

-- One row per file of spans. Times are nanoseconds since the Unix epoch.
CREATE TABLE files (
    id             TEXT PRIMARY KEY,
    tenant         TEXT NOT NULL,
    path           TEXT NOT NULL UNIQUE,
    level          INTEGER NOT NULL,
    tier           TEXT NOT NULL,
    spans          BIGINT NOT NULL,
    bytes          BIGINT NOT NULL,
    start_min      BIGINT NOT NULL,
    start_max      BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    -- Bit i: a span begins in minute i of the hour of start_min. All bits: unknown, or the spans begin in several hours.
    minutes        BIGINT NOT NULL,
    -- 0 where it is not known.
    row_groups     BIGINT NOT NULL,
    tail_bytes     BIGINT NOT NULL,
    -- Spans that nobody can read any more.
    lost_spans     BIGINT NOT NULL,
    -- Set when the file was replaced, expired or damaged.
    retired_at     BIGINT,
    retired_reason TEXT,
    -- CRC-32C of the row. NULL only until the first start with this schema has worked it out.
    checksum       BIGINT
);

INSERT INTO files
SELECT id, tenant, path, level, tier, spans, bytes, start_min, start_max, created_at, -1, 0, 0, 0, retired_at,
       retired_reason, NULL
FROM described_files;

-- How far the log has been stored in files: everything up to and including `position`, of a tenant or ('') of all.
CREATE TABLE log_positions_of_tenants (
    log      TEXT NOT NULL,
    tenant   TEXT NOT NULL,
    position BIGINT NOT NULL,
    checksum BIGINT,
    PRIMARY KEY (log, tenant)
);

INSERT INTO log_positions_of_tenants SELECT log, '', position, NULL FROM log_positions;
DROP TABLE log_positions;
ALTER TABLE log_positions_of_tenants RENAME TO log_positions;

-- What the store remembers beside its files: its id, its clock.
CREATE TABLE meta (
    name     TEXT PRIMARY KEY,
    value    TEXT NOT NULL,
    checksum BIGINT
);
