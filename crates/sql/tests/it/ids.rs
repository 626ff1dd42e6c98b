//! Ids in conditions are numbers: short or long, in small or capital digits, wherever a statement names them.

use tracehouse_model::{SpanBatch, SpanFields, SpanId, TraceId};
use tracehouse_sql::SqlLimits;

use crate::shop::{BEGIN, Shop};

const TRACE: TraceId = TraceId([0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xcd, 0xef, 1, 2, 3, 4, 5]);
const OTHER: TraceId = TraceId([0xfe; 16]);
const ROOT: SpanId = SpanId([0, 0, 0, 0, 0, 0xab, 0xcd, 0xef]);

/// A root and its child in one trace, and a root in another that links to the child.
fn spans() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    let (root, child) = (ROOT, SpanId([0xcd; 8]));
    for (name, trace_id, span_id, parent_span_id) in
        [("root", TRACE, root, SpanId::NONE), ("child", TRACE, child, root), ("other", OTHER, root, SpanId::NONE)]
    {
        let name = batch.strings.intern_str(name);
        if trace_id == OTHER {
            batch.finish_link(TRACE, child, 0, 0, 0);
        }
        batch.finish_span(SpanFields {
            trace_id,
            span_id,
            parent_span_id,
            start_unix_nanos: BEGIN,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_numbers_in_whatever_form_they_are_written() {
    let names = |condition: &str| format!("SELECT name FROM spans WHERE {condition} ORDER BY name");
    let both = &["child", "root"][..];
    let cases: &[(String, &[&str])] = &[
        (names("trace_id = '0000000000000000abcdef0102030405'"), both),
        (names("trace_id = 'abcdef0102030405'"), both),
        (names("trace_id = 'ABCDEF0102030405'"), both),
        (names("'00ABCDEF0102030405' = trace_id"), both),
        (names("trace_id != 'ABCDEF0102030405'"), &["other"]),
        (names("NOT (trace_id = 'ABCDEF0102030405')"), &["other"]),
        (names("trace_id IN ('ABCDEF0102030405', '1')"), both),
        (names("trace_id NOT IN ('ABCDEF0102030405', 'no id')"), &["other"]),
        (names("trace_id BETWEEN 'ABCDEF0102030405' AND 'ABCDEF0102030406'"), both),
        (names("trace_id > 'ABCDEF0102030405'"), &["other"]),
        (names("trace_id IS NOT DISTINCT FROM 'ABCDEF0102030405'"), both),
        (names("CASE trace_id WHEN 'ABCDEF0102030405' THEN true ELSE false END"), both),
        (names("span_id = 'ABCDEF'"), &["other", "root"]),
        (names("parent_span_id = '0000ABCDEF'"), &["child"]),
        (names("parent_span_id IS DISTINCT FROM 'ABCDEF'"), &["other", "root"]),
        // What is no id is equal to none.
        (names("trace_id = 'no id' OR span_id = '0000000000000000000000000000abcdef'"), &[]),
        (names("trace_id = ''"), &[]),
        // A function of an id is a text.
        (names("upper(span_id) = '0000000000ABCDEF'"), &["other", "root"]),
        ("SELECT count(*) FROM traces WHERE trace_id = 'ABCDEF0102030405'".into(), &["1"]),
        ("SELECT count(*) FROM links WHERE linked_trace_id = 'ABCDEF0102030405' AND linked_span_id != 'CDCDCDCDCDCDCDCE'".into(), &["1"]),
        (names("'ABCDEF' IN (span_id, parent_span_id)"), &["child", "other", "root"]),
        // Through subqueries, lists and rows chosen by a key.
        (
            "SELECT s.name FROM spans s WHERE EXISTS (SELECT 1 FROM spans p WHERE p.trace_id = s.trace_id AND s.span_id = 'ABCDEF') \
             ORDER BY s.name"
                .into(),
            &["other", "root"],
        ),
        (
            "SELECT a.name FROM spans a, LATERAL (SELECT b.span_id FROM spans b WHERE b.trace_id = a.trace_id) l \
             WHERE l.span_id = 'ABCDEF' ORDER BY 1"
                .into(),
            &["child", "other", "root"],
        ),
        (
            "SELECT count(*) FROM (SELECT trace_id, unnest(make_array(1, 2)) AS n FROM spans) WHERE trace_id = 'ABCDEF0102030405'".into(),
            &["4"],
        ),
        (
            "SELECT count(*) FROM (SELECT DISTINCT ON (name) span_id AS id FROM spans ORDER BY name) WHERE id = 'ABCDEF'".into(),
            &["2"],
        ),
        (
            "SELECT count(*) FROM (SELECT DISTINCT ON (name) name AS span_id FROM spans ORDER BY name) t WHERE span_id = 'root'".into(),
            &["1"],
        ),
        // Beside other texts ids are texts.
        (
            "SELECT x FROM (SELECT span_id AS x FROM spans UNION ALL SELECT 'beef') WHERE x = 'beef'".into(),
            &["beef"],
        ),
        (
            "SELECT count(*) FROM (SELECT span_id AS x FROM spans UNION ALL SELECT name FROM (VALUES ('cafe'), ('12')) v(name)) \
             WHERE x IN ('cafe', '12')"
                .into(),
            &["2"],
        ),
        ("SELECT name FROM spans WHERE CAST(span_id AS TEXT) = 'ABCDEF'".into(), &[]),
        (
            "WITH RECURSIVE r AS (SELECT trace_id, span_id, span_id AS path, 0 AS depth FROM spans WHERE parent_span_id IS NULL \
             UNION ALL SELECT s.trace_id, s.span_id, concat(r.path, '/', s.span_id), r.depth + 1 FROM spans s \
             JOIN r ON s.parent_span_id = r.span_id AND s.trace_id = r.trace_id WHERE r.depth < 4) \
             SELECT depth FROM r ORDER BY depth"
                .into(),
            &["0", "0", "1"],
        ),
        (
            "WITH RECURSIVE r AS (SELECT '0000000000abcdef' AS id UNION ALL \
             SELECT s.span_id FROM spans s JOIN r ON s.parent_span_id = r.id) SELECT id FROM r ORDER BY id"
                .into(),
            &["0000000000abcdef", "cdcdcdcdcdcdcdcd"],
        ),
        (
            "SELECT id FROM (SELECT span_id AS id, row_number() OVER (ORDER BY name) AS n FROM spans) WHERE id = 'ABCDEF'".into(),
            &["0000000000abcdef", "0000000000abcdef"],
        ),
        // Under other names.
        ("SELECT name FROM (SELECT trace_id AS id, name FROM spans) WHERE id = 'ABCDEF0102030405' ORDER BY name".into(), both),
        (
            "WITH ids AS (SELECT trace_id AS id, count(*) AS n FROM spans GROUP BY trace_id) \
             SELECT n FROM ids WHERE id = 'ABCDEF0102030405'"
                .into(),
            &["2"],
        ),
        (
            "SELECT a.name FROM spans a JOIN spans b ON a.trace_id = b.trace_id AND b.span_id = 'ABCDEF' \
             WHERE a.parent_span_id = b.span_id"
                .into(),
            &["child"],
        ),
        (
            "SELECT count(*) FILTER (WHERE trace_id = 'ABCDEF0102030405') AS n FROM spans \
             HAVING max(CASE WHEN span_id = 'ABCDEF' THEN 1 ELSE 0 END) = 1"
                .into(),
            &["2"],
        ),
    ];
    let shop = Shop::open(SqlLimits::default()).await;
    shop.append(spans()).await;
    for stored in [false, true] {
        if stored {
            shop.store.flush().await.expect("flushes");
        }
        for (query, expected) in cases {
            assert_eq!(shop.rows(query).await, *expected, "{query} stored: {stored}");
        }
    }
}
