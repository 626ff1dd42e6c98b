-- When the last span inside ends, in nanoseconds since the Unix epoch. NULL: not known, as an earlier version wrote the row.
ALTER TABLE files ADD COLUMN end_max BIGINT;
