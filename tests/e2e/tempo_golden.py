"""Questions to Tempo's interface, and their answers in a form that can be compared.

`tests/data/tempo/record.py` asks Tempo with it, `test_tempo_golden.py` asks Tracehouse.
"""

import functools
import importlib
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

import requests
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from otlp import TraceByIDResponse

DATA = Path(__file__).parents[1] / "data/tempo"
PROTO = Path(__file__).parents[2] / "crates/api/proto"
SECOND = 10**9
REQUEST_SECONDS_MAX = 30
STEPS_SECONDS = 7 * 120
TENANT = "first"


def new_base():
    """The time in nanoseconds that all times of spans are relative to. Steps of each length we ask for begin there."""
    return (time.time_ns() // SECOND - 300) // STEPS_SECONDS * STEPS_SECONDS * SECOND


# The spans


def requests_of_spans(base):
    """The tenants and what each of them sends, as OTLP/JSON."""
    for tenant, body in json.loads((DATA / "spans.json").read_text()).items():
        yield tenant, _with_times(body, base)


def _with_times(value, base):
    if isinstance(value, dict):
        return {
            key: str(base + each) if key.endswith("TimeUnixNano") or key == "timeUnixNano" else _with_times(each, base)
            for key, each in value.items()
        }
    return [_with_times(each, base) for each in value] if isinstance(value, list) else value


# The questions


def questions():
    """Each group of `questions.json` asks the same with every one of its `values` for the parameter named by `vary`."""
    for group in json.loads((DATA / "questions.json").read_text()):
        for value in group.get("values", [None]):
            asked = {key: group[key] for key in ("kind", "path", "tenant", "params", "headers") if key in group}
            if group.get("vary") == "path":
                asked["path"] = asked["path"].replace("{}", value)
            elif "vary" in group:
                asked["params"] = asked.get("params", {}) | {group["vary"]: value}
            yield asked


USUAL = {
    "/api/search": {"start": "$-60", "end": "$180", "limit": "100", "spss": "100"},
    "/api/metrics/query_range": {"start": "$0", "end": "$120", "step": "30s"},
    "/api/metrics/query": {"start": "$0", "end": "$120"},
}


def name_of(asked):
    """What identifies a question. The parameters that most questions have are left out."""
    params = asked.get("params", {})
    usual = USUAL.get(asked["path"], {"start": "$-60", "end": "$180"})
    if usual.items() <= params.items() and len(params) <= len(usual) + 2 and "/traces/" not in asked["path"]:
        params = {key: value for key, value in params.items() if key not in usual}
    name = asked["path"] + "".join(f" {key}={value}" for key, value in sorted(params.items()))
    if "headers" in asked:
        name += " as protobuf"
    tenant = asked.get("tenant", TENANT)
    return name if tenant == TENANT else f"{name} of tenant {tenant or 'none'}"


def _time_asked(value, base):
    """A parameter `$7` is the time seven seconds after the base; `$7n` is the same in nanoseconds."""
    if not value.startswith("$"):
        return value
    nanos = base + int(value[1:].rstrip("n")) * SECOND
    return str(nanos if value.endswith("n") else nanos // SECOND)


def ask(url, asked, base):
    """The answer in its normal form."""
    params = {key: _time_asked(value, base) for key, value in asked.get("params", {}).items()}
    headers = dict(asked.get("headers", {}))
    if tenant := asked.get("tenant", TENANT):
        headers["X-Scope-OrgID"] = tenant
    path = quote(asked["path"], safe="/%?&=:")
    answer = requests.get(url + path, params=params, headers=headers, timeout=REQUEST_SECONDS_MAX)
    content_type = answer.headers.get("Content-Type", "").split(";")[0]
    normal = {"status": answer.status_code}
    if answer.status_code != 200:
        return normal | {"text": bool(answer.content)}
    normal["type"] = content_type
    if content_type == "application/protobuf":
        body = _decoded(asked["path"], answer.content)
    elif content_type == "application/json":
        body = answer.json()
    else:
        return normal | {"body": answer.text.strip()}
    return normal | {"body": _normal(asked, body, base)}


# The normal form


@functools.cache
def _messages():
    from grpc_tools import protoc

    out = tempfile.mkdtemp(prefix="tempo-messages-")
    assert protoc.main(["protoc", f"-I{PROTO}", f"--python_out={out}", "tempo.proto"]) == 0
    sys.path.insert(0, out)
    return importlib.import_module("tempo_pb2")


def _decoded(path, content):
    if path.startswith("/api/v2/traces/"):
        message = TraceByIDResponse.FromString(content)
    elif path.startswith("/api/traces/"):
        message = TracesData.FromString(content)
    else:
        name = {
            "/api/search": "SearchResponse",
            "/api/search/tags": "SearchTagsResponse",
            "/api/v2/search/tags": "SearchTagsV2Response",
        }.get(path)
        name = name or ("SearchTagValuesV2Response" if path.startswith("/api/v2") else "SearchTagValuesResponse")
        message = getattr(_messages(), name).FromString(content)
    return MessageToDict(message)


def _normal(asked, body, base):
    """Without statistics of the search, times relative to the base, sorted where no order is promised."""
    path = asked["path"]
    if path.startswith(("/api/v2/traces/", "/api/traces/")):
        spans = _flat(body.get("trace", {}) if "/v2/" in path else body, base)
        return {"spans": spans, "fields": sorted(set(body) - {"metrics"})}
    if path == "/api/search":
        return _search(body, base)
    if path.startswith("/api/metrics/"):
        return _series(asked, body, base)
    if path.endswith("/search/tags"):
        if "scopes" in body:
            scopes = [{"name": each["name"], "tags": sorted(each.get("tags", []))} for each in body["scopes"]]
            return {"scopes": sorted(scopes, key=lambda scope: scope["name"])}
        return {"tagNames": sorted(body.get("tagNames", []))}
    if path.endswith("/values"):
        values = [_not_empty(each) if isinstance(each, dict) else each for each in body.get("tagValues") or []]
        return {"tagValues": sorted(values, key=lambda each: json.dumps(each, sort_keys=True, ensure_ascii=False))}
    if path.endswith("/buildinfo"):
        return sorted(body)
    return body


def _time(text, base):
    return int(text) - base if text not in ("", "0", 0, None) else 0


def _pairs(attributes):
    attributes = [_floats(pair) for pair in attributes or []]
    return sorted(attributes, key=lambda pair: (pair["key"], json.dumps(pair, sort_keys=True)))


def _floats(value):
    """The same text for 1 and 1.0, 1e21 and 1e+21."""
    if isinstance(value, dict):
        return {key: float(each) if key == "doubleValue" else _floats(each) for key, each in value.items()}
    return [_floats(each) for each in value] if isinstance(value, list) else value


def _flat(trace, base):
    """Each span with its resource and scope, sorted by id."""
    spans = []
    for batch in trace.get("resourceSpans", trace.get("batches", [])):
        for scope in batch.get("scopeSpans", []):
            for span in scope.get("spans", []):
                span = dict(span)
                for key in ("startTimeUnixNano", "endTimeUnixNano"):
                    span[key] = _time(span.get(key), base)
                span["attributes"] = _pairs(span.get("attributes"))
                events = []
                for event in span.pop("events", []):
                    event = {key: value for key, value in event.items() if value != []}
                    event["timeUnixNano"] = _time(event.get("timeUnixNano"), base)
                    if "attributes" in event:
                        event["attributes"] = _pairs(event["attributes"])
                    events.append(event)
                span["events"] = sorted(events, key=lambda event: (event["timeUnixNano"], event.get("name", "")))
                links = [
                    {key: _pairs(value) if key == "attributes" else value for key, value in link.items() if value != []}
                    for link in span.pop("links", [])
                ]
                span["links"] = sorted(links, key=lambda link: json.dumps(link, sort_keys=True))
                resource = dict(batch.get("resource", {}))
                resource["attributes"] = _pairs(resource.get("attributes"))
                about = dict(scope.get("scope", {}))
                about["attributes"] = _pairs(about.get("attributes"))
                spans.append({"resource": resource, "scope": about} | span)
    return sorted(spans, key=lambda span: (span["spanId"], json.dumps(span, sort_keys=True)))


def _search(body, base):
    traces = []
    for trace in body.get("traces") or []:
        trace = dict(trace)
        trace["traceID"] = trace.pop("traceId", trace.get("traceID")).lstrip("0")
        trace["startTimeUnixNano"] = _time(trace.get("startTimeUnixNano"), base)
        sets = [_spanset(each, base) for each in trace.get("spanSets", [])]
        trace["spanSets"] = sorted(sets, key=lambda each: json.dumps(each, sort_keys=True))
        if "spanSet" in trace and _spanset(trace["spanSet"], base) in sets:
            # The deprecated field is one of the sets.
            trace["spanSet"] = "is one of them"
        traces.append(_not_empty(trace))
    return {"traces": sorted(traces, key=lambda trace: trace["traceID"])}


def _spanset(spanset, base):
    spans = []
    for span in spanset.get("spans", []):
        span = dict(span)
        span["spanID"] = span.pop("spanId", span.get("spanID"))
        span["startTimeUnixNano"] = _time(span.get("startTimeUnixNano"), base)
        span["attributes"] = _pairs(span.get("attributes"))
        spans.append(_not_empty(span))
    spans.sort(key=lambda span: span["spanID"])
    return _not_empty(spanset | {"spans": spans, "attributes": _pairs(spanset.get("attributes"))})


def _not_empty(message):
    """In protobuf's JSON a field that is left out has its empty value."""
    return {key: value for key, value in message.items() if value not in ("", 0, "0", [])}


def _number(value):
    if isinstance(value, str):
        return value
    return value if not math.isfinite(value) else float(f"{value:.6g}")


def _series(asked, body, base):
    query = asked["params"].get("q", asked["params"].get("query", ""))
    # Of quantiles only the times are compared; they are approximations.
    number = (lambda value: "about" if value else 0) if "quantile_over_time" in query else _number
    found = []
    for series in body.get("series") or []:
        labels = [[label["key"], _floats(label.get("value", {}))] for label in series.get("labels") or []]
        labels.sort(key=lambda label: label[0])
        one = {"labels": labels}
        if "samples" in series:
            one["samples"] = [
                [int(sample["timestampMs"]) - base // 10**6, number(sample.get("value", 0))]
                for sample in series["samples"]
            ]
        if "value" in series or asked["path"].endswith("/query"):
            one["value"] = number(series.get("value", 0))
        found.append(one)
    normal = {"series": sorted(found, key=lambda one: json.dumps(one, sort_keys=True))}
    if asked["params"].get("exemplars", "").isdecimal():
        # Which spans are examples is anybody's choice; what is said of them is compared. We name the span besides.
        labels = {
            label["key"]
            for series in body.get("series") or []
            for example in series.get("exemplars", [])
            for label in example["labels"]
        }
        normal["labels of exemplars"] = sorted(labels - {"span:id"})
    return normal


# What differs in many answers, on purpose


def in_our_way(asked, tempo, ours):
    """Both answers without what differs on purpose everywhere. Such parts of ours must be true of the spans."""
    if tempo["status"] != 200 or ours["status"] != 200:
        return tempo, ours
    tempo, ours = json.loads(json.dumps(tempo)), json.loads(json.dumps(ours))
    path = asked["path"]
    tenants = set(asked.get("tenant", TENANT).split("|"))
    if path == "/api/search" and len(tenants) == 1:
        _search_in_our_way(asked, tempo["body"], ours["body"])
    elif path.startswith("/api/metrics/"):
        _series_in_our_way(asked, tempo["body"], ours["body"])
    elif path.endswith("/values"):
        # Tempo lists an empty text where spans lack the field; we list it if it was sent.
        values = tempo["body"]["tagValues"]
        for empty in ("", {"type": "string"}):
            if empty in values and empty not in ours["body"]["tagValues"]:
                values.remove(empty)
    return tempo, ours


def _series_in_our_way(asked, tempo, ours):
    query = asked["params"].get("q", asked["params"].get("query", ""))
    start = asked["params"].get("start", "$0")
    for series in tempo["series"]:
        # The attribute as it was sent: if it is missing, its label is `nil`, or left out if there are others.
        missing = [
            label for label in series["labels"] if label[0].endswith("service.name") and label[1] == {"stringValue": ""}
        ]
        for label in missing:
            if len(series["labels"]) > 1:
                series["labels"].remove(label)
            else:
                label[1] = {"stringValue": "nil"}
        # The first point is for spans that start at that very moment; with us they count for the next point.
        if (
            series.get("samples")
            and series["samples"][0][0] <= int(start.strip("$n")) * 1000
            and series["samples"][0][1] == 0
        ):
            del series["samples"][0]
    tempo["series"] = [series for series in tempo["series"] if series.get("samples") != []]
    if "quantile_over_time" in query or "histogram_over_time" in query:
        # They have a gap in steps without spans.
        for series in tempo["series"] + ours["series"]:
            if "samples" in series:
                series["samples"] = [sample for sample in series["samples"] if sample[1] != 0]
        tempo["series"] = [series for series in tempo["series"] if series.get("samples") != []]
    for body in (tempo, ours):
        body["series"].sort(key=lambda one: json.dumps(one, sort_keys=True))


def _search_in_our_way(asked, tempo, ours):
    truths = truth(asked.get("tenant", TENANT).split("|")[0])
    query = asked.get("params", {}).get("q")
    theirs = {trace["traceID"]: trace for trace in tempo["traces"]}
    for trace in ours["traces"]:
        other = theirs.get(trace["traceID"])
        if other is None:
            continue
        about = truths[trace["traceID"].rjust(32, "0")]
        if about["odd root"]:
            # Of several roots we name the first, of none the first span. Tempo names the last, or none.
            for key in ("rootServiceName", "rootTraceName"):
                other.pop(key, None)
            other |= _not_empty(about["root"])
        if "serviceStats" in other and "" in other["serviceStats"]:
            other["serviceStats"]["unknown_service"] = other["serviceStats"].pop("")
        if not query:
            # Without TraceQL Tempo tells only about traces.
            for key in ("spanSet", "spanSets", "serviceStats"):
                assert trace.pop(key)
                other.pop(key, None)
        sets = {_ids(each): each for each in other.get("spanSets", [])}
        for spanset in trace.get("spanSets", []):
            known = {span["spanID"]: span for span in sets.get(_ids(spanset), {}).get("spans", [])}
            for span in spanset["spans"]:
                if span["spanID"] in known:
                    _span_in_our_way(query or "", known[span["spanID"]], span, about["spans"][span["spanID"]])


MENTIONED_AS = {"rootServiceName": "trace:rootService", "rootName": "trace:rootName", "traceDuration": "trace:duration"}


NOTHING = ({"stringValue": "nil"}, {"stringValue": ""}, {"stringValue": "0s"}, {"stringValue": "0" * 16})


def _ids(spanset):
    return tuple(span["spanID"] for span in spanset.get("spans", []))


def _span_in_our_way(query, tempo, ours, fields):
    """Attributes of a span: those that the query mentions, its service, and whether it failed."""
    if "name" not in tempo and "name" in ours:
        assert [{"stringValue": ours.pop("name")}] == fields["name"]
    mine = [(pair["key"], pair["value"]) for pair in ours.get("attributes", [])]
    keys_of_mine = {key for key, _ in mine}
    theirs = []
    for pair in tempo.get("attributes", []):
        key, value = pair["key"], pair["value"]
        # A missing value is left out; in Tempo it is a text like any other.
        if value in NOTHING and key not in keys_of_mine and key.removeprefix("span:") not in fields:
            continue
        if key == "service.name" and value == {"stringValue": ""}:
            value = {"stringValue": "unknown_service"}
        theirs.append((key, value))
    keys_of_theirs = {key for key, _ in theirs}
    shown = []
    for key, value in mine:
        if key not in keys_of_theirs:
            mentioned = MENTIONED_AS.get(key, key.split(":")[-1]) in query or key in query
            assert key in ("service.name", "status") or mentioned, key
            assert value == fields.get(key, [None])[0], (key, value)
            continue
        shown.append((key, value))
    ours["attributes"] = sorted(shown, key=json.dumps)
    tempo["attributes"] = sorted(theirs, key=json.dumps)


@functools.cache
def truth(tenant):
    """What is so, from the spans themselves: of each trace its root, of each span the values of its fields."""
    traces = {}
    for batch in json.loads((DATA / "spans.json").read_text()).get(tenant, {}).get("resourceSpans", []):
        for scope in batch["scopeSpans"]:
            for span in scope["spans"]:
                traces.setdefault(span["traceId"], []).append((batch["resource"], scope.get("scope", {}), span))
    return {trace: _truth_of(spans) for trace, spans in traces.items()}


KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUSES = ("unset", "ok", "error")


def _duration(nanos):
    for unit, size in (("s", SECOND), ("ms", 10**6)):
        if nanos >= size:
            return f"{nanos / size:g}{unit}"
    return f"{nanos}s" if nanos == 0 else f"{nanos}ns"


def _service(resource):
    return next((pair["value"]["stringValue"] for pair in resource["attributes"] if pair["key"] == "service.name"), "")


def _truth_of(spans):
    spans = sorted(spans, key=lambda each: each[2]["startTimeUnixNano"])
    roots = [each for each in spans if "parentSpanId" not in each[2]]
    root = (roots or spans)[0]
    length = max(span["endTimeUnixNano"] for *_, span in spans) - spans[0][2]["startTimeUnixNano"]
    of_spans = {}
    for resource, scope, span in spans:
        fields = {
            "name": [span["name"]],
            "status": [STATUSES[span.get("status", {}).get("code", 0)]],
            "statusMessage": [span["status"]["message"]] if span.get("status", {}).get("message") else [],
            "kind": [KINDS[span["kind"]]],
            "duration": [_duration(span["endTimeUnixNano"] - span["startTimeUnixNano"])],
            "traceDuration": [_duration(length)],
            "rootName": [root[2]["name"] if roots else ""],
            "rootServiceName": [_service(root[0]) if roots else ""],
            "trace:id": [span["traceId"]],
            "span:id": [span["spanId"]],
            "span:parentID": [span["parentSpanId"]] if "parentSpanId" in span else [],
            "event:name": [event["name"] for event in span.get("events", [])],
            "event:timeSinceStart": [
                _duration(event["timeUnixNano"] - span["startTimeUnixNano"]) for event in span.get("events", [])
            ],
            "link:traceID": [link["traceId"] for link in span.get("links", [])],
            "link:spanID": [link["spanId"] for link in span.get("links", [])],
        }
        fields = {key: [{"stringValue": value} for value in values] for key, values in fields.items() if values}
        for pair in resource["attributes"] + scope.get("attributes", []):
            fields.setdefault(pair["key"], [_floats(pair["value"])])
        for pair in span.get("attributes", []):
            if pair["key"] not in ("name", "duration", "status", "service.name"):
                fields[pair["key"]] = [_floats(pair["value"])]
        fields.setdefault("service.name", [{"stringValue": "unknown_service"}])
        for each in span.get("events", []) + span.get("links", []):
            for pair in each.get("attributes", []):
                fields.setdefault(pair["key"], []).append(_floats(pair["value"]))
        of_spans[span["spanId"]] = fields
    return {
        "root": {"rootServiceName": _service(root[0]) or "unknown_service", "rootTraceName": root[2]["name"]},
        "odd root": len(roots) != 1 or not _service(root[0]),
        "spans": of_spans,
    }
