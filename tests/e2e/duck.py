"""DuckDB over the stored files, as anyone would use it: one glob, nothing of ours."""

import duckdb


def connect(server, more_options="file_row_number = false"):
    """A connection in which `spans` is all that is stored; `tenant`, `date` and `hour` come from the folders' names."""
    connection = duckdb.connect()
    glob = server.store / "tenant=*" / "spans" / "**" / "*.parquet"
    connection.execute(
        f"CREATE VIEW spans AS SELECT * "
        f"FROM read_parquet('{glob}', hive_partitioning = true, union_by_name = true, {more_options})"
    )
    return connection


def rows(connection, query, *parameters):
    return connection.execute(query, list(parameters)).fetchall()


def row(connection, query, *parameters):
    [only] = rows(connection, query, *parameters)
    return only


def number(connection, query, *parameters):
    [only] = row(connection, query, *parameters)
    return only
