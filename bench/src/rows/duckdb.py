"""Asks DuckDB the questions of the TraceQL rows over the same files and prints seconds and counts as JSON.

Arguments: glob of the files, a value that no span has, runs to warm up, runs to time.
"""

import json
import statistics
import sys
import time

import duckdb

FILES, ABSENT, WARM_UP, RUNS = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
SPANS = f"read_parquet('{FILES}', union_by_name = true)"
MINUTE = "epoch_ns(start_time) // 60000000000"

# Each with the column of the result, from the end, in which spans are counted.
QUESTIONS = {
    "rate": f"""SELECT "resource.service.name", {MINUTE} AS minute, count(*) FROM {SPANS}
        WHERE status = 'error' GROUP BY ALL""",
    "quantiles": f"""SELECT name, {MINUTE} AS minute, quantile_cont(duration_nanos, [0.5, 0.95, 0.99]), count(*)
        FROM {SPANS} GROUP BY ALL""",
    "approximate quantiles": f"""SELECT name, {MINUTE} AS minute, approx_quantile(duration_nanos, [0.5, 0.95, 0.99]),
        count(*) FROM {SPANS} GROUP BY ALL""",
    "by_service": f"""SELECT "resource.service.name", {MINUTE} AS minute, count(*) FROM {SPANS} GROUP BY ALL""",
    "absent": f"""SELECT count(*) FROM {SPANS} WHERE "span.enduser.id" = '{ABSENT}'""",
}


def measure(connection, sql):
    """The median time of a query, and how many spans it counts."""
    times = []
    for _ in range(WARM_UP + RUNS):
        begin = time.perf_counter()
        rows = connection.sql(sql).fetchall()
        times.append(time.perf_counter() - begin)
    spans = sum(row[-1] for row in rows)
    return {"seconds": statistics.median(times[WARM_UP:]), "spans": spans, "sql": " ".join(sql.split())}


connection = duckdb.connect()
# Of what takes long it would print how far it is, among what is read here.
connection.execute("SET enable_progress_bar = false")
found = {name: measure(connection, sql) for name, sql in QUESTIONS.items()}
# The faster of the two is what ours is held to.
approximate = found.pop("approximate quantiles")
found["quantiles"] = min(found["quantiles"], approximate, key=lambda one: one["seconds"])
print(json.dumps(found))
