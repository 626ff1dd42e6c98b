CREATE TABLE tenants (
    name       TEXT PRIMARY KEY,
    created_at BIGINT NOT NULL
);

-- One row per file of spans. Times are nanoseconds since the Unix epoch.
CREATE TABLE files (
    id             TEXT PRIMARY KEY,
    tenant         TEXT NOT NULL REFERENCES tenants (name),
    path           TEXT NOT NULL UNIQUE,
    level          INTEGER NOT NULL,
    tier           TEXT NOT NULL,
    spans          BIGINT NOT NULL,
    bytes          BIGINT NOT NULL,
    start_min      BIGINT NOT NULL,
    start_max      BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    -- Which traces may be inside, and which names: read at start so that most files are never opened.
    trace_filter   BLOB NOT NULL,
    contents       TEXT NOT NULL,
    -- Set when the file was replaced, expired or damaged; it is removed from the disk once no reader can hold it.
    retired_at     BIGINT,
    retired_reason TEXT
);

CREATE INDEX files_by_retirement ON files (retired_at);

-- How far the log has been stored in files: everything up to and including `position`.
CREATE TABLE log_positions (
    log      TEXT PRIMARY KEY,
    position BIGINT NOT NULL
);
