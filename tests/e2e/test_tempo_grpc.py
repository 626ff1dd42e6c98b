"""Tempo's streaming gRPC interface on the port of HTTP, asked by a client that is made from our .proto."""

import importlib
import sys
import time
from pathlib import Path

import grpc
import pytest
from grpc_tools import protoc

from otlp import request, span
from tracehouse import Tracehouse

PROTO = Path(__file__).parents[2] / "crates/api/proto"
SECOND = 10**9
SPANS = 40
STEP_SECONDS = 10


@pytest.fixture(scope="module")
def messages(tmp_path_factory):
    out = tmp_path_factory.mktemp("tempopb")
    arguments = ["protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}", "tempo.proto"]
    assert protoc.main(arguments) == 0
    sys.path.insert(0, str(out))
    return importlib.import_module("tempo_pb2")


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A span each second, of two services in turn, half of them in files. `begin` is a multiple of the step."""
    server = Tracehouse(tmp_path_factory.mktemp("tempo-grpc")).start()
    begin = (time.time_ns() // SECOND - 600) // STEP_SECONDS * STEP_SECONDS
    for number in range(SPANS):
        spans = [
            span(
                (number + 1).to_bytes(16),
                (number + 1).to_bytes(8),
                (begin + number) * SECOND,
                duration_nanos=(number + 1) * 1_000_000,
                name="GET /cart",
                attributes={"http.route": "/cart", "number": number},
            )
        ]
        server.post_otlp(request(spans, service=f"service-{number % 2}").SerializeToString())
        if number == SPANS // 2:
            server.flush()
    yield server, begin
    server.kill()


@pytest.fixture(scope="module")
def client(filled, messages):
    server, _ = filled
    with grpc.insecure_channel(server.url.removeprefix("http://")) as channel:
        yield importlib.import_module("tempo_pb2_grpc").StreamingQuerierStub(channel)


def test_search(client, messages, filled):
    _, begin = filled
    question = messages.SearchRequest(query='{ resource.service.name = "service-1" }', limit=100)
    (answer,) = client.Search(question)
    expected = [f"{number + 1:032x}" for number in range(SPANS - 1, -1, -1) if number % 2]
    assert [trace.trace_id for trace in answer.traces] == expected
    first = answer.traces[0]
    assert first.root_service_name == "service-1" and first.root_trace_name == "GET /cart"
    assert first.start_time_unix_nano == (begin + SPANS - 1) * SECOND and first.duration_ms == SPANS
    assert first.span_sets[0].matched == 1 and first.service_stats["service-1"].span_count == 1
    assert answer.metrics.completed_jobs == answer.metrics.total_jobs
    # The same as over HTTP.
    over_http = filled[0].json("/api/search", params={"q": question.query, "limit": 100})
    assert [trace["traceID"] for trace in over_http["traces"]] == expected


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.NoCompression])
def test_compressed_questions(client, messages, compression):
    call = client.Search(messages.SearchRequest(limit=100), compression=compression)
    (answer,) = call
    assert len(answer.traces) == SPANS


def test_protobuf_over_http(messages, filled):
    server, _ = filled
    headers = {"Accept": "application/protobuf"}
    for path, message in [
        ("/api/search?limit=100", messages.SearchResponse),
        ("/api/search/tags", messages.SearchTagsResponse),
        ("/api/v2/search/tags", messages.SearchTagsV2Response),
        ("/api/search/tag/http.route/values", messages.SearchTagValuesResponse),
        ("/api/v2/search/tag/span.http.route/values", messages.SearchTagValuesV2Response),
    ]:
        answer = server.get(path, headers=headers)
        assert answer.headers["Content-Type"] == "application/protobuf", path
        assert message.FromString(answer.content).ByteSize() > 0, path
    found = messages.SearchResponse.FromString(server.get("/api/search?limit=100", headers=headers).content)
    assert len(found.traces) == SPANS


def test_tags(client, messages, filled):
    _, begin = filled
    (names,) = client.SearchTags(messages.SearchTagsRequest(scope="span"))
    assert list(names.tag_names) == ["http.route", "number"]
    asked = messages.SearchTagsRequest(start=begin, end=begin + SPANS, query="{ }")
    (scopes,) = client.SearchTagsV2(asked)
    assert {scope.name for scope in scopes.scopes} >= {"span", "resource", "intrinsic"}
    # Where no span is, there are only the intrinsics.
    (names,) = client.SearchTags(messages.SearchTagsRequest(start=1, end=2, query="{ }"))
    assert list(names.tag_names) == []
    (scopes,) = client.SearchTagsV2(messages.SearchTagsRequest(start=1, end=2, query="{ }"))
    assert [scope.name for scope in scopes.scopes] == ["intrinsic"]
    asked = messages.SearchTagValuesRequest(tag_name="resource.service.name")
    (values,) = client.SearchTagValues(asked)
    assert list(values.tag_values) == ["service-0", "service-1"]
    (values,) = client.SearchTagValuesV2(asked)
    assert [(value.type, value.value) for value in values.tag_values] == [
        ("string", "service-0"),
        ("string", "service-1"),
    ]


def test_metrics_over_a_range(client, messages, filled):
    server, begin = filled
    query = "{ } | count_over_time() by (resource.service.name)"
    question = messages.QueryRangeRequest(
        query=query,
        start=begin * SECOND,
        end=(begin + SPANS) * SECOND,
        step=STEP_SECONDS * SECOND,
    )
    (answer,) = client.MetricsQueryRange(question)
    assert [series.labels[0].value.string_value for series in answer.series] == ["service-0", "service-1"]
    for series in answer.series:
        assert series.labels[0].key == "resource.service.name"
        # Each point stands at the end of its step.
        ends = [(begin + (step + 1) * STEP_SECONDS) * 1000 for step in range(SPANS // STEP_SECONDS)]
        assert [sample.timestamp_ms for sample in series.samples] == ends
        assert [sample.value for sample in series.samples] == [STEP_SECONDS / 2] * len(ends)
    assert answer.status == messages.COMPLETE
    over_http = server.json(
        "/api/metrics/query_range",
        params={"q": query, "start": begin, "end": begin + SPANS, "step": f"{STEP_SECONDS}s"},
    )
    assert [len(series["samples"]) for series in over_http["series"]] == [len(ends)] * 2


def test_steps_are_whole_and_exemplars_on_the_line(client, messages, filled):
    _, begin = filled
    question = messages.QueryRangeRequest(
        query="{ } | count_over_time()",
        start=(begin + 3) * SECOND,
        end=(begin + SPANS - 3) * SECOND,
        step=STEP_SECONDS * SECOND,
    )
    (answer,) = client.MetricsQueryRange(question)
    (series,) = answer.series
    ends = [(begin + (step + 1) * STEP_SECONDS) * 1000 for step in range(SPANS // STEP_SECONDS)]
    assert [(sample.timestamp_ms, sample.value) for sample in series.samples] == [(end, STEP_SECONDS) for end in ends]
    assert len(series.exemplars) > SPANS // 2
    assert {exemplar.value for exemplar in series.exemplars} == {STEP_SECONDS}
    question.query += " with(exemplars=false)"
    (answer,) = client.MetricsQueryRange(question)
    assert not answer.series[0].exemplars


def test_metrics_at_once(client, messages, filled):
    _, begin = filled
    question = messages.QueryInstantRequest(
        query="{ } | max_over_time(duration)", start=begin * SECOND, end=(begin + SPANS) * SECOND
    )
    (answer,) = client.MetricsQueryInstant(question)
    assert [series.value for series in answer.series] == [SPANS / 1000]


# Grafana names the tenant twice when it streams.
@pytest.mark.parametrize(
    ("tenants", "traces"), [(["default"], 20), (["default"] * 2, 20), (["another"], 0), (["another"] * 2, 0)]
)
def test_tenants_are_apart(client, messages, tenants, traces):
    metadata = [("x-scope-orgid", tenant) for tenant in tenants]
    (answer,) = client.Search(messages.SearchRequest(query="{ }"), metadata=metadata)
    assert len(answer.traces) == traces


def test_two_tenants_at_once_are_refused(client, messages):
    metadata = [("x-scope-orgid", "default"), ("x-scope-orgid", "another")]
    with pytest.raises(grpc.RpcError) as failed:
        list(client.Search(messages.SearchRequest(query="{ }"), metadata=metadata))
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_what_is_wrong_is_said(client, messages):
    with pytest.raises(grpc.RpcError) as failed:
        list(client.Search(messages.SearchRequest(query="{ statsu = error }")))
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "did you mean `status`?" in failed.value.details()
