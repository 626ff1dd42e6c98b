//! Answers over each layout against those of a loop over the spans.

use std::collections::BTreeMap;

use tracehouse_model::{AnyValue, Span, Threshold, double_text, kind, status};

use crate::shop::{LAYOUTS, Shop, TRACE_INTERVAL};

/// A question, and its answer by a loop over all spans: rows in any order, columns divided by ` | `, null as `-`.
struct Case {
    query: &'static str,
    answer: fn(&[Span]) -> Vec<String>,
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a AnyValue> {
    let find = |list: &'a [(String, AnyValue)]| list.iter().find(|(known, _)| known == key).map(|(_, value)| value);
    find(&span.attributes).or_else(|| find(&span.resource_attributes))
}

fn text(value: Option<&AnyValue>) -> String {
    match value {
        None => "-".to_owned(),
        Some(AnyValue::String(text)) => text.clone(),
        Some(AnyValue::Double(value)) => double_text(*value),
        Some(other) => other.to_canonical_json(),
    }
}

fn service(span: &Span) -> String {
    text(span.resource_attributes.iter().find(|(key, _)| key == "service.name").map(|(_, value)| value))
}

fn json(attributes: &[(String, AnyValue)]) -> String {
    let mut sorted = attributes.to_vec();
    sorted.sort_by(|left, right| left.0.cmp(&right.0));
    AnyValue::KeyValueList(sorted).to_canonical_json()
}

fn counted(keys: impl Iterator<Item = String>) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts.into_iter().map(|(key, count)| format!("{key} | {count}")).collect()
}

fn count(spans: &[Span], holds: impl Fn(&Span) -> bool) -> Vec<String> {
    vec![spans.iter().filter(|span| holds(span)).count().to_string()]
}

const CASES: &[Case] = &[
    Case { query: "SELECT count(*) FROM spans", answer: |spans| count(spans, |_| true) },
    Case {
        query: "SELECT service_name, status, count(*) FROM spans GROUP BY service_name, status",
        answer: |spans| {
            counted(spans.iter().map(|span| format!("{} | {}", service(span), status::name(span.status_code))))
        },
    },
    Case {
        query: "SELECT count(*) FROM spans WHERE attr('http.route') = '/route/3'",
        answer: |spans| count(spans, |span| text(attribute(span, "http.route")) == "/route/3"),
    },
    Case {
        query: "SELECT attr('code'), count(*) FROM spans GROUP BY attr('code')",
        answer: |spans| counted(spans.iter().map(|span| text(attribute(span, "code")))),
    },
    Case {
        query: "SELECT attr('both'), span_attr('both'), resource_attr('both'), count(*) FROM spans GROUP BY 1, 2, 3",
        answer: |spans| {
            counted(spans.iter().map(|span| {
                let own = span.attributes.iter().find(|(key, _)| key == "both").map(|(_, value)| value);
                format!("{} | {} | from resource", text(attribute(span, "both")), text(own))
            }))
        },
    },
    Case {
        query: "SELECT attr('userId'), attr('userid'), count(*) FROM spans GROUP BY 1, 2",
        answer: |spans| {
            let id = |span, key| text(attribute(span, key));
            counted(spans.iter().map(|span| format!("{} | {}", id(span, "userId"), id(span, "userid"))))
        },
    },
    Case {
        query: "SELECT sum(attr_int('code')), sum(attr_float('code')), \
                count(*) FILTER (WHERE attr_bool('code')) FROM spans",
        answer: |spans| {
            let (mut ints, mut floats, mut trues) = (0, 0.0, 0);
            for span in spans {
                match attribute(span, "code") {
                    Some(AnyValue::Int(value)) => {
                        ints += value;
                        floats += *value as f64;
                    }
                    Some(AnyValue::Double(value)) => floats += value,
                    Some(AnyValue::Bool(true)) => trues += 1,
                    _ => {}
                }
            }
            vec![format!("{ints} | {floats:?} | {trues}")]
        },
    },
    Case {
        query: "SELECT count(*) FROM spans WHERE attr_int('http.status') >= 400 AND service_name = 'cart' \
                AND duration_nanos > 500000000",
        answer: |spans| {
            count(spans, |span| {
                matches!(attribute(span, "http.status"), Some(AnyValue::Int(value)) if *value >= 400)
                    && service(span) == "cart"
                    && span.duration_nanos > 500_000_000
            })
        },
    },
    Case {
        query: "SELECT count(*) FROM spans WHERE attr('rare.key') = 'needle' OR name LIKE 'POST%'",
        answer: |spans| {
            count(spans, |span| text(attribute(span, "rare.key")) == "needle" || span.name.starts_with("POST"))
        },
    },
    Case {
        query: "SELECT count(*) FROM spans WHERE attr('rare.key') IS NULL AND service_name IS NULL",
        answer: |spans| {
            count(spans, |span| attribute(span, "rare.key").is_none() && attribute(span, "service.name").is_none())
        },
    },
    Case {
        query: "SELECT count(*) FROM spans WHERE (service_name IS DISTINCT FROM 'cart') AND kind IN ('server', 'client')",
        answer: |spans| {
            count(spans, |span| service(span) != "cart" && [kind::SERVER, kind::CLIENT].contains(&span.kind))
        },
    },
    Case {
        query: "SELECT trace_id, span_id, parent_span_id, name, kind, status_message, scope_name, scope_version, \
                CAST(start_time AS BIGINT), duration_nanos FROM spans",
        answer: |spans| {
            let row = |span: &Span| {
                let parent = span.parent_span_id;
                [
                    span.trace_id.to_string(),
                    span.span_id.to_string(),
                    if parent.is_none() { "-".to_owned() } else { parent.to_string() },
                    span.name.clone(),
                    kind::name(span.kind).to_owned(),
                    if span.status_message.is_empty() { "-".to_owned() } else { span.status_message.clone() },
                    "http".to_owned(),
                    "1.2".to_owned(),
                    span.start_unix_nanos.to_string(),
                    span.duration_nanos.to_string(),
                ]
                .join(" | ")
            };
            spans.iter().map(row).collect()
        },
    },
    Case {
        query: "SELECT span_id, attributes, resource_attributes FROM spans WHERE duration_nanos % 2 = 0",
        answer: |spans| {
            let even = spans.iter().filter(|span| span.duration_nanos % 2 == 0);
            even.map(|span| {
                format!("{} | {} | {}", span.span_id, json(&span.attributes), json(&span.resource_attributes))
            })
            .collect()
        },
    },
    Case {
        query: "SELECT count(*) FROM spans WHERE attributes LIKE '%\"cache.hit\":true%' AND parent_span_id IS NOT NULL",
        answer: |spans| {
            count(spans, |span| {
                attribute(span, "cache.hit") == Some(&AnyValue::Bool(true)) && !span.parent_span_id.is_none()
            })
        },
    },
    Case {
        query: "SELECT sum(weight), count(probability), sum(seconds(duration_nanos)) > 1 FROM spans",
        answer: |spans| {
            let weight = |span: &Span| span.sampling_threshold.map_or(1.0, Threshold::adjusted_count);
            let known = spans.iter().filter(|span| span.sampling_threshold.is_some()).count();
            vec![format!("{:?} | {known} | true", spans.iter().map(weight).sum::<f64>())]
        },
    },
    Case {
        query: "SELECT parent.name, child.attr('http.route'), count(*) FROM spans AS child JOIN spans AS parent \
                ON child.trace_id = parent.trace_id AND child.parent_span_id = parent.span_id \
                WHERE child.status = 'error' GROUP BY 1, 2",
        answer: |spans| {
            let errors = spans.iter().filter(|span| span.status_code == status::ERROR);
            let pairs = errors.filter_map(|child| {
                let is_parent = |span: &&Span| span.trace_id == child.trace_id && span.span_id == child.parent_span_id;
                let parent = spans.iter().find(is_parent)?;
                Some(format!("{} | {}", parent.name, text(attribute(child, "http.route"))))
            });
            counted(pairs)
        },
    },
    Case {
        query: "SELECT name, attr('exception.type'), service_name, count(*) FROM events GROUP BY 1, 2, 3",
        answer: |spans| {
            counted(spans.iter().flat_map(|span| {
                span.events
                    .iter()
                    .map(|event| format!("{} | {} | {}", event.name, text(Some(&event.attributes[0].1)), service(span)))
            }))
        },
    },
    Case {
        query: "SELECT count(*) FROM events WHERE attr('exception.type') = 'Timeout' AND span_name = 'SELECT' \
                AND attr('k8s.pod.name') = 'pod-1'",
        answer: |spans| {
            let timeout = AnyValue::String("Timeout".into());
            let wanted =
                spans.iter().filter(|span| span.name == "SELECT" && text(attribute(span, "k8s.pod.name")) == "pod-1");
            let events = wanted.flat_map(|span| &span.events).filter(|event| event.attributes[0].1 == timeout);
            vec![events.count().to_string()]
        },
    },
    Case {
        query: "SELECT trace_id, span_id, linked_trace_id, linked_span_id, attr('why') FROM links",
        answer: |spans| {
            let links = spans.iter().flat_map(|span| span.links.iter().map(move |link| (span, link)));
            links
                .map(|(span, link)| {
                    format!("{} | {} | {} | {} | retry", span.trace_id, span.span_id, link.trace_id, link.span_id)
                })
                .collect()
        },
    },
    Case {
        query: "SELECT trace_id, root_service, root_name, CAST(start_time AS BIGINT), duration_nanos, spans, errors, \
                array_to_string(services, ',') FROM traces",
        answer: |spans| {
            let mut traces: BTreeMap<_, Vec<&Span>> = BTreeMap::new();
            spans.iter().for_each(|span| traces.entry(span.trace_id).or_default().push(span));
            let row = |spans: &Vec<&Span>| {
                let root = spans.iter().find(|span| span.parent_span_id.is_none()).expect("every trace has a root");
                let end = spans.iter().map(|span| span.start_unix_nanos + span.duration_nanos).max();
                let errors = spans.iter().filter(|span| span.status_code == status::ERROR).count();
                [
                    root.trace_id.to_string(),
                    service(root),
                    root.name.clone(),
                    root.start_unix_nanos.to_string(),
                    (end.expect("there is a span") - root.start_unix_nanos).to_string(),
                    spans.len().to_string(),
                    errors.to_string(),
                    service(root),
                ]
                .join(" | ")
            };
            traces.values().map(row).collect()
        },
    },
    Case {
        query: "WITH slow AS (SELECT * FROM spans WHERE millis(duration_nanos) > 900) \
                SELECT attr('http.route'), count(*) FROM slow WHERE attr('cache.hit') = 'true' GROUP BY 1",
        answer: |spans| {
            let slow = spans.iter().filter(|span| {
                span.duration_nanos > 900_000_000 && attribute(span, "cache.hit") == Some(&AnyValue::Bool(true))
            });
            counted(slow.map(|span| text(attribute(span, "http.route"))))
        },
    },
    Case {
        query: "SELECT span_id, row_number() OVER (PARTITION BY attr('tags') ORDER BY span_id) FROM spans \
                WHERE attr('tags') IS NOT NULL",
        answer: |spans| {
            let tagged: Vec<&Span> = spans.iter().filter(|span| attribute(span, "tags").is_some()).collect();
            let before = |span: &Span, other: &Span| {
                attribute(span, "tags") == attribute(other, "tags") && other.span_id <= span.span_id
            };
            let number = |span: &Span| tagged.iter().filter(|other| before(span, other)).count();
            tagged.iter().map(|span| format!("{} | {}", span.span_id, number(span))).collect()
        },
    },
];

#[tokio::test]
async fn answers_are_those_of_a_loop_over_all_spans() {
    for layout in LAYOUTS {
        let (shop, spans) = Shop::filled(layout).await;
        for case in CASES {
            let mut found = shop.rows(case.query).await;
            let mut expected = (case.answer)(&spans);
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "{layout:?}: {}", case.query);
        }
    }
}

#[tokio::test]
async fn ranges_of_time_in_every_spelling() {
    for layout in LAYOUTS {
        let (shop, spans) = Shop::filled(layout).await;
        let from = crate::shop::BEGIN + 30 * TRACE_INTERVAL;
        let to = crate::shop::BEGIN + 90 * TRACE_INTERVAL;
        let within = |span: &&Span| (from..to).contains(&span.start_unix_nanos);
        let expected = vec![spans.iter().filter(within).count().to_string()];
        for condition in [
            "start_time >= '2023-11-14T22:43:20Z' AND start_time < '2023-11-14T23:43:20Z'".to_owned(),
            "start_time >= TIMESTAMP '2023-11-14 22:43:20' AND start_time < TIMESTAMP '2023-11-14 23:43:20'".to_owned(),
            "start_time BETWEEN '2023-11-14T22:43:20Z' AND '2023-11-14T23:43:19.999999999Z'".to_owned(),
            format!("start_time >= to_timestamp_nanos({from}) AND start_time < to_timestamp_nanos({to})"),
        ] {
            let found = shop.rows(&format!("SELECT count(*) FROM spans WHERE {condition}")).await;
            assert_eq!(found, expected, "{layout:?}: {condition}");
        }
    }
}
