"""OTLP in JSON: texts are repaired, what is wrong costs no more than it must, and the sender is told."""

import gzip

import pytest

from otlp import middle_of_hour

TRACE = bytes(range(1, 17)).hex()
START = middle_of_hour()


def one_span(number, members=""):
    """A span in JSON, in bytes; `members` may be anything, also what no encoder writes."""
    members = members if isinstance(members, bytes) else members.encode()
    ids = f'"traceId":"{TRACE}","spanId":"{number:016x}","startTimeUnixNano":{START}.0,"endTimeUnixNano":"{START + 5}"'
    return b"{" + ids.encode() + (b"," if members else b"") + members + b"}"


def request(*spans, resource=b"{}"):
    scopes = b'[{"spans":[' + b",".join(spans) + b"]}]"
    return b'{"resourceSpans":[{"scopeSpans":' + scopes + b',"resource":' + resource + b"}]}"


def send(server, body, **arguments):
    """How many spans were refused, and what the sender is told."""
    answer = server.post_otlp(body, "application/json", **arguments).json().get("partialSuccess", {})
    return int(answer.get("rejectedSpans", 0)), answer.get("errorMessage", "")


def read(server, number, expect=200):
    answer = server.get(f"/api/v1/traces/{TRACE}/spans/{number:016x}", expect=expect)
    return answer.json() if expect == 200 else None


def values(span):
    return {pair["key"]: pair["value"] for pair in span["attributes"]}


def test_texts_are_repaired_and_numbers_read_in_every_form(new_tracehouse):
    server = new_tracehouse().start()
    attribute = r'{"key":"\udf55","value":{"stringValue":"\ud83c\ud83c\udf55"}}'
    lone = one_span(1, r'"name":"a\ud83cb","kind":2.0,"attributes":[' + attribute + "]")
    status = b'{"code":"STATUS_CODE_ERROR","message":"\xff"}'
    invalid = one_span(2, b'"name":"name\xe9","kind":"SPAN_KIND_SERVER","status":' + status)
    cart = rb'{"attributes":[{"key":"service.name","value":{"stringValue":"cart\udf55"}}]}'
    body = b"\xef\xbb\xbf" + request(lone, invalid, resource=cart)
    assert send(server, body) == (0, "")
    assert send(server, gzip.compress(body), headers={"Content-Encoding": "gzip"}) == (0, "")
    for stage in (lambda: None, server.flush, server.compact, server.restart):
        stage()
        span = read(server, 1)
        assert (span["name"], span["kind"], values(span)) == ("a\ufffdb", "server", {"\ufffd": "\ufffd\U0001f355"})
        assert span["marks"] == ["invalid_utf8"]
        span = read(server, 2)
        assert (span["name"], span["kind"], span["marks"]) == ("name\ufffd", "server", ["invalid_utf8"])
        found = server.search(service="cart\ufffd")
        assert [trace["traceId"] for trace in found["traces"]] == [TRACE]


# What is wrong, whether the span is refused for it, and a part of what the sender is told.
WRONG = (
    ('"kind":[]', True, "kind is an array"),
    ('"name":5', True, "name is a number"),
    ('"flags":-1', True, "flags is a number"),
    ('"status":{"code":{}}', True, "status.code is an object"),
    ('"events":[{"timeUnixNano":"soon"}]', True, "events.timeUnixNano is a string"),
    ('"links":5', True, "links is a number"),
    ('"attributes":{"SECRET":1}', True, "attributes is an object"),
    ('"attributes":[{"key":"k","value":{"intValue":"SECRET"}}]', False, '"k" of span 1 of the request'),
    ('"attributes":[{"key":"k","value":{"bytesValue":"SECRET!"}}]', False, "bytesValue is a string"),
    ('"attributes":[{"key":"k","value":"SECRET"}]', False, "value is a string"),
)


@pytest.mark.parametrize(("members", "refused", "told"), WRONG)
def test_what_is_wrong_costs_no_more_than_it_must(tracehouse, members, refused, told):
    good = one_span(1, '"name":"good","attributes":[{"key":"k","value":{"stringValue":"v"}}]')
    wrong = one_span(2, members.replace("SECRET", "s3cret-of-nobody") + ',"name":"wrong"')
    count, message = send(tracehouse, request(good, wrong, one_span(3)))
    assert count == int(refused) and told in message, message
    assert read(tracehouse, 1)["name"] == "good" and values(read(tracehouse, 1)) == {"k": "v"}
    read(tracehouse, 3)
    kept = read(tracehouse, 2, expect=404 if refused else 200)
    if kept:
        assert (kept["name"], kept["attributes"], kept["droppedAttributesCount"]) == ("wrong", [], 1)
        assert tracehouse.metric_sum("tracehouse_receive_wrong_attributes_total") == 1
    written = [file.read_bytes() for file in (tracehouse.data_dir / "log").rglob("*") if file.is_file()]
    assert any(b"good" in content for content in written)
    assert not any(b"s3cret-of-nobody" in content for content in written)


def test_what_is_no_json_or_has_another_shape_is_refused_whole(tracehouse):
    good = one_span(1)
    for body in (
        request(good)[:-1],
        request(good) + b"{}",
        request(good).replace(b'"spans":[', b'"spans":[,'),
        b'{"resourceSpans":{}}',
        b'{"resourceSpans":[{"scopeSpans":5}]}',
        b"[]",
        b"\xef\xbb\xbf",
    ):
        answer = tracehouse.post_otlp(body, "application/json", expect=400).json()
        assert "is not an ExportTraceServiceRequest in JSON" in answer["message"], answer
    read(tracehouse, 1, expect=404)
