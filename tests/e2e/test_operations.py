"""What whoever runs a Tracehouse meets: configuration, start, stop, health, tenants."""

import json
import re
import signal
import socket
import time

import pytest

from otlp import by_span, middle_of_hour, request, span, trace_as_protobuf
from tracehouse import run


def one_trace(number, service="shop", spans=3):
    trace_id = number.to_bytes(16)
    return request(
        [
            span(trace_id, (number << 16 | at).to_bytes(8), middle_of_hour() + at, parent_span_id=parent(number, at))
            for at in range(1, spans + 1)
        ],
        service=service,
    )


def parent(number, at):
    return b"" if at == 1 else (number << 16 | 1).to_bytes(8)


# Configuration


@pytest.mark.parametrize(
    ("yaml", "said"),
    [
        ("store:\n  flush_intervl: 1s\n", ["unknown key store.flush_intervl", "did you mean store.flush_interval?"]),
        ("retention: 7d\n", ["unknown key retention", "did you mean store.retention?"]),
        ("stor:\n  retention: 7d\n", ["unknown key stor", "did you mean store"]),
        ("listen: nowhere\n", ["listen: ", "address"]),
        ("store:\n  retention: 7\n", ["store.retention", "not a duration", "90s"]),
        ("limits:\n  request_bytes_max: many\n", ["limits.request_bytes_max", "not a size", "64MiB"]),
        ("roles: [gateway]\n", ["roles", "gateway needs"]),
        ("store: [1, 2]\n", ["store", "expected a section"]),
        ("a: [\n", ["not YAML"]),
        ("store:\n  durability: never\n", ["store.durability", "fsync"]),
        ("limits:\n  decompressed_bytes_max: 1GiB\n", ["limits.decompressed_bytes_max", "limits.in_flight_bytes_max"]),
    ],
)
def test_wrong_configuration_says_what_is_wrong(tmp_path, yaml, said):
    config = tmp_path / "tracehouse.yaml"
    config.write_text(yaml)
    for command in ("serve", "config check"):
        done = run(*command.split(), "--config", config, "--data-dir", tmp_path / "data", expect=None)
        assert done.returncode not in (0, 101), done
        for words in said:
            assert words in done.stderr, done.stderr
        assert "panicked" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_wrong_environment_says_what_is_wrong(tmp_path):
    done = run("config", "check", env={"TRACEHOUSE_STORE__RETENTON": "1d"}, expect=None)
    assert done.returncode != 0
    assert "TRACEHOUSE_STORE__RETENTON" in done.stderr and "TRACEHOUSE_STORE__RETENTION" in done.stderr


def test_layers_of_configuration(tmp_path):
    config = tmp_path / "tracehouse.yaml"
    config.write_text("store: {retention: 3d, flush_interval: 5s}\nlisten: 127.0.0.1:1\n")
    environment = {"TRACEHOUSE_STORE__RETENTION": "4d", "TRACEHOUSE_LISTEN": "127.0.0.1:2"}
    shown = run("config", "show", "--config", config, "--listen", "127.0.0.1:3", env=environment).stdout
    for line in (
        "retention: 4d.*TRACEHOUSE_STORE__RETENTION",
        "flush_interval: 5s.*yaml",
        "listen: 127.0.0.1:3.*--listen",
    ):
        assert re.search(line, shown), shown
    run("config", "check", "--config", config)
    schema = json.loads(run("config", "schema").stdout)
    assert "retention" in json.dumps(schema)


# Start


def test_one_folder_belongs_to_one_server(new_tracehouse, tmp_path):
    first = new_tracehouse().start()
    first.post_otlp(one_trace(1).SerializeToString())
    ports = [flag for name in ("--listen", "--otlp-grpc", "--otlp-http") for flag in (name, "127.0.0.1:0")]
    done = run("serve", "--data-dir", first.data_dir, *ports, expect=None)
    assert done.returncode not in (0, 101)
    assert str(first.data_dir) in done.stderr and "in use by another tracehouse" in done.stderr
    # The first has not noticed.
    first.post_otlp(one_trace(2).SerializeToString())
    assert len(first.search()["traces"]) == 2
    # Only a lock that lives stands in the way, not a file that a crash left.
    first.kill()
    first.start()
    assert len(first.search()["traces"]) == 2


@pytest.mark.parametrize(
    ("flag", "key"), [("--listen", "listen"), ("--otlp-grpc", "otlp.grpc"), ("--otlp-http", "otlp.http")]
)
def test_a_port_in_use_is_named(tmp_path, flag, key):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = {name: "127.0.0.1:0" for name in ("--listen", "--otlp-grpc", "--otlp-http")} | {flag: address}
        done = run("serve", "--data-dir", tmp_path, *(part for pair in flags.items() for part in pair), expect=None)
    assert done.returncode not in (0, 101)
    assert address in done.stderr and "in use" in done.stderr and f"set {key} to" in done.stderr


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("serve", "--data-dir", tmp_path / "file" / "data", "--listen", "127.0.0.1:0", expect=None)
    assert done.returncode not in (0, 101)
    assert str(tmp_path / "file") in done.stderr


# Stop


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_graceful_stop_leaves_everything_in_files(new_tracehouse, signal_number):
    server = new_tracehouse().start()
    sent = {}
    for number in range(1, 51):
        made = one_trace(number)
        server.post_otlp(made.SerializeToString())
        sent |= by_span(made)
    assert server.parquet_files() == []
    server.process.send_signal(signal_number)
    assert server.process.wait(30) == 0
    assert len(server.parquet_files()) == 1
    server.start()
    status = server.json("/api/v1/status")
    assert (status["spansHot"], status["spansStored"]) == (0, len(sent))
    assert "replayed the log" not in server.log()
    for number in (1, 50):
        found = by_span(trace_as_protobuf(server, f"{number:032x}"))
        assert found == {key: fields for key, fields in sent.items() if int(key[0], 16) == number}


def test_a_crash_leaves_everything_in_the_log(new_tracehouse):
    """The counterpart, which shows that the test above looks at the right thing."""
    server = new_tracehouse().start()
    server.post_otlp(one_trace(1).SerializeToString())
    server.kill()
    assert server.parquet_files() == []
    server.start()
    assert "replayed the log" in server.log()
    assert server.json("/api/v1/status")["spansHot"] == 3


def test_a_stop_under_load_answers_or_refuses_each_request(new_tracehouse):
    """What was acknowledged while the server stopped is there after it."""
    import threading

    import requests

    server = new_tracehouse().start()
    acknowledged, numbers, halt = [], iter(range(1, 10**6)), threading.Event()

    def send():
        session = requests.Session()
        while not halt.is_set():
            number = next(numbers)
            try:
                headers = {"Content-Type": "application/x-protobuf"}
                body = one_trace(number).SerializeToString()
                answer = session.post(server.otlp_http + "/v1/traces", data=body, headers=headers, timeout=10)
            except requests.RequestException:
                return
            if answer.status_code == 200:
                acknowledged.append(number)
            else:
                assert answer.status_code in (429, 503) and "Retry-After" in answer.headers

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.7)
    server.stop()
    halt.set()
    for thread in threads:
        thread.join()
    assert len(acknowledged) > 20
    server.start()
    status = server.json("/api/v1/status")
    assert status["spansStored"] + status["spansHot"] >= 3 * len(acknowledged)
    for number in acknowledged[-20:]:
        assert server.json(f"/api/v1/traces/{number:032x}")["spanCount"] == 3


# Health and metrics

METRIC_LINE = re.compile(
    r"""(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
        (?:\{(?P<labels>(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",?)*)\})?
        [ ](?P<value>[-+]?(?:[0-9.]+(?:[eE][-+]?[0-9]+)?|Inf|NaN))(?:[ ]\d+)?""",
    re.VERBOSE,
)


def parse_prometheus(text):
    """Families by name, with type and samples. Strict as to the text format 0.0.4."""
    families, current = {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in families, f"{name} is there twice"
            assert kind in ("counter", "gauge", "histogram", "summary", "untyped")
            current = families[name] = (kind, {})
            current_name = name
            continue
        if not line:
            continue
        match = METRIC_LINE.fullmatch(line)
        assert match, f"not a sample: {line!r}"
        suffixes = ("", "_bucket", "_sum", "_count") if current[0] in ("histogram", "summary") else ("",)
        assert match["name"] in [current_name + suffix for suffix in suffixes], line
        sample = (match["name"], match["labels"] or "")
        assert sample not in current[1], f"{line!r} is there twice"
        current[1][sample] = float(match["value"])
    return families


def test_health_and_metrics(new_tracehouse):
    server = new_tracehouse().start()
    for path in ("/healthz", "/readyz"):
        assert server.get(path).text.strip() in ("ok", "ready")
    for number in range(1, 11):
        server.post_otlp(one_trace(number).SerializeToString())
    server.post_otlp(b"\xff\xff", expect=400)
    server.flush()
    server.search()
    answer = server.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    families = parse_prometheus(answer.text)
    for name, (kind, samples) in families.items():
        assert samples, f"{name} has no samples"
        assert all(value >= 0 for value in samples.values()), name
        if kind == "counter":
            assert name.endswith("_total"), name
        if kind == "histogram":
            check_histogram(name, samples)
    received = families["tracehouse_receive_spans_total"][1]
    assert sum(received.values()) == 30
    refused = families["tracehouse_receive_refused_requests_total"][1]
    assert sum(value for (_, labels), value in refused.items() if 'reason="undecodable"' in labels) == 1
    assert sum(families["tracehouse_store_flushed_spans_total"][1].values()) == 30
    # It is looked at every few seconds.
    _, peak = server.memory_bytes()
    assert 2**20 < sum(families["process_resident_memory_bytes"][1].values()) <= peak


def check_histogram(name, samples):
    """Buckets are cumulative and end with the count."""
    series = {}
    for (sample, labels), value in samples.items():
        if sample == f"{name}_bucket":
            rest, bound = re.fullmatch(r'(.*?),?le="([^"]+)",?', labels).groups()
            series.setdefault(rest, []).append((float(bound.replace("+Inf", "inf")), value))
    assert series
    for rest, buckets in series.items():
        assert buckets == sorted(buckets) and [value for _, value in buckets] == sorted(value for _, value in buckets)
        assert buckets[-1] == (float("inf"), samples[f"{name}_count", rest])


def test_unknown_paths_and_parameters(tracehouse):
    problem = tracehouse.get("/api/v1/nothing", expect=404)
    assert problem.headers["Content-Type"] == "application/problem+json"
    assert problem.json()["status"] == 404
    problem = tracehouse.get("/api/v1/search?colour=x", expect=400).json()
    assert "colour" in problem["detail"]
    for query in (
        "limit=0",
        "limit=1001",
        "limit=x",
        "minDuration=5",
        "q={",
        "attr=x",
        "start=yesterday",
        "status=bad",
    ):
        problem = tracehouse.get(f"/api/v1/search?{query}", expect=400).json()
        assert problem["status"] == 400 and problem["detail"], query
    tracehouse.get("/api/v1/traces/xyz", expect=400)
    tracehouse.get(f"/api/v1/traces/{'0' * 31}1", expect=404)
    document = tracehouse.json("/api/v1/openapi.json")
    assert document["openapi"].startswith("3.") and "/api/v1/search" in document["paths"]
    # A page of another site must not start work.
    tracehouse.request("POST", "/api/v1/admin/flush", headers={"Sec-Fetch-Site": "cross-site"}, expect=403)


# Tenants


def test_tenants_do_not_see_each_other(new_tracehouse):
    server = new_tracehouse().start()
    # The same trace id in each: ids say nothing about whom a trace belongs to.
    server.post_otlp(one_trace(7, service="of-a", spans=2).SerializeToString(), tenant="a")
    server.post_otlp(one_trace(7, service="of-b", spans=5).SerializeToString(), tenant="b")
    server.post_otlp(one_trace(8, service="of-default", spans=1).SerializeToString())
    seen = {"a": ("of-a", 7, 2), "b": ("of-b", 7, 5), "default": ("of-default", 8, 1)}
    for stage in (lambda: None, server.flush, server.compact, server.restart):
        stage()
        for tenant, (service, number, spans) in seen.items():
            check_tenant(server, tenant, service, number, spans)
        check_tenant(server, None, *seen["default"])
        assert server.search(tenant="c")["traces"] == []
        assert server.json("/api/v1/services", tenant="c")["services"] == []
        server.get(f"/api/v1/traces/{7:032x}", tenant="c", expect=404)
    folders = sorted(path.name for path in server.store.glob("tenant=*"))
    assert folders == ["tenant=a", "tenant=b", "tenant=default"]
    assert len(server.parquet_files()) == 3


def check_tenant(server, tenant, service, number, spans):
    found = server.search(tenant=tenant)["traces"]
    assert [(trace["traceId"], trace["spanCount"]) for trace in found] == [(f"{number:032x}", spans)]
    assert server.json("/api/v1/services", tenant=tenant)["services"] == [{"name": service}]
    assert server.json(f"/api/v1/traces/{number:032x}", tenant=tenant)["spanCount"] == spans
    assert len(by_span(trace_as_protobuf(server, f"{number:032x}", tenant=tenant))) == spans
    values = server.json("/api/v1/attributes/values?scope=resource&key=service.name", tenant=tenant)["values"]
    assert [value["value"] for value in values] == [service]
    tags = server.json("/api/v2/search/tag/resource.service.name/values", tenant=tenant)["tagValues"]
    assert [tag["value"] for tag in tags] == [service]
    status = server.json("/api/v1/status", tenant=tenant)
    assert status["spansHot"] + status["spansStored"] == spans


@pytest.mark.parametrize("name", ["../x", "a/b", ".", "..", "a b", "x" * 200, "tenant=x", "a|../b", "a|", "ü"])
def test_tenants_that_cannot_be_folders_are_refused(tracehouse, name):
    body = one_trace(1).SerializeToString()
    assert tracehouse.post_otlp(body, headers={"X-Scope-OrgID": name.encode()}, expect=None).status_code == 400
    tracehouse.get("/api/v1/search", headers={"X-Scope-OrgID": name.encode()}, expect=400)
    tracehouse.flush()
    assert tracehouse.parquet_files() == []
