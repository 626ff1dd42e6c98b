"""Queries that people save: all who read a tenant's traces have them, after a crash too."""

import json

SAVED = "/api/v1/saved-queries"
JSON = {"Content-Type": "application/json"}


def save(server, name, address, tenant=None):
    body = json.dumps({"description": f"as {name}", "address": address})
    return server.request("PUT", f"{SAVED}/{name}", tenant=tenant, headers=JSON, data=body).json()


def names(server, tenant=None):
    return [query["name"] for query in server.json(SAVED, tenant=tenant)["queries"]]


def test_saved_queries_survive_a_crash(tracehouse):
    saved = save(tracehouse, "errors", "/query?q=%7Bstatus%3Derror%7D")
    save(tracehouse, "slow", "/?minDuration=2s")
    save(tracehouse, "theirs", "/", tenant="other")
    assert int(saved["savedTimeUnixNano"]) > 1_700_000_000 * 10**9
    tracehouse.request("DELETE", f"{SAVED}/slow", expect=204)
    tracehouse.kill()
    tracehouse.start()
    assert names(tracehouse) == ["errors"] and names(tracehouse, tenant="other") == ["theirs"]
    assert tracehouse.json(SAVED)["queries"] == [saved]
    tracehouse.restart()
    assert names(tracehouse) == ["errors"]
