//! What is refused, cut or ended.

use std::path::PathBuf;
use std::time::Duration;

use tracehouse_model::{Randomness, SystemRandomness, TenantId};
use tracehouse_sql::{SqlError, SqlLimits, SqlRequest};

use crate::shop::{LAYOUTS, Layout, Shop, many_spans, many_spans_every, rows_of};

#[tokio::test]
async fn nothing_can_be_written_or_reached() {
    let (shop, _) = Shop::filled(Layout::Mixed).await;
    for statement in [
        "INSERT INTO spans SELECT * FROM spans",
        "DELETE FROM spans",
        "UPDATE spans SET name = 'x'",
        "DROP TABLE spans",
        "DROP VIEW traces",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY spans TO '/tmp/spans.csv'",
        "COPY (SELECT 1) TO 'x.csv' STORED AS CSV",
        "SET datafusion.execution.target_partitions = 100",
        "RESET datafusion.execution.target_partitions",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "EXPLAIN DELETE FROM spans",
        "EXPLAIN COPY spans TO 'x.csv'",
        "SELECT * INTO t FROM spans",
        "TRUNCATE TABLE spans",
        "BEGIN",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE spans",
        "",
        "   ;",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM \"file:///etc/passwd\"",
    ] {
        let refused = shop.try_ask(statement, 10).await;
        assert!(matches!(refused, Err(SqlError::Invalid(_))), "{statement}: {refused:?}");
    }
}

#[tokio::test]
async fn questions_of_every_kind_are_answered() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    for statement in [
        "SELECT 1",
        "SELECT 1;",
        "VALUES (1), (2)",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a",
        "EXPLAIN SELECT * FROM spans",
        "EXPLAIN ANALYZE SELECT count(*) FROM spans WHERE kind = 'server'",
        "SHOW TABLES",
        "SHOW COLUMNS FROM spans",
        "DESCRIBE spans",
        "DESCRIBE traces",
        "SELECT table_name FROM information_schema.tables",
        "SELECT * FROM generate_series(1, 3)",
        "SELECT * FROM traces",
        "SELECT * FROM events",
        "SELECT * FROM links",
    ] {
        let answer = shop.ask(statement).await;
        assert!(answer.complete && answer.rows > 0, "{statement}: {answer:?}");
    }
}

#[tokio::test]
async fn mistakes_are_explained() {
    let (shop, _) = Shop::filled(Layout::Hot).await;
    for (statement, expected) in [
        ("SELECT nam FROM spans", "name"),
        ("SELECT name FROM span", "span"),
        ("SELECT\n  nam\nFROM spans", "line 2, column 3"),
        ("SELEC name FROM spans", "Line: 1, Column: 1"),
        ("SELECT attr(name) FROM spans", "attr('http.route')"),
        ("SELECT attr() FROM spans", "attr('http.route')"),
        ("SELECT attr(\"http.route\") FROM spans", "single quotes"),
        ("SELECT attr('a') FROM spans a JOIN spans b ON a.trace_id = b.trace_id", "s.attr('key')"),
        ("SELECT attr('a') FROM (SELECT name FROM spans)", "select them in the subquery"),
        ("SELECT no_such_function(1)", "no_such_function"),
        ("SELECT 1 / 0", "ivide by zero"),
        ("SELECT CAST('x' AS BIGINT)", "x"),
        ("DELETE FROM spans", "only questions"),
        ("SELECT 1; SELECT 2", "one at a time"),
    ] {
        match shop.try_ask(statement, 10).await {
            Err(SqlError::Invalid(detail)) => assert!(detail.contains(expected), "{statement}: {detail}"),
            other => panic!("{statement}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn long_answers_are_cut_and_say_so() {
    for layout in LAYOUTS {
        let (shop, spans) = Shop::filled(layout).await;
        let answer = shop.try_ask("SELECT name FROM spans ORDER BY start_time", 7).await.expect("answers");
        assert_eq!((answer.rows, answer.complete), (7, false), "{layout:?}");
        let reason = answer.partial_reason.expect("a partial answer has a reason");
        assert!(reason.starts_with("7 of at least 8 rows"), "{reason}");
        let answer = shop.try_ask("SELECT name FROM spans", spans.len()).await.expect("answers");
        assert!(answer.complete, "exactly as many rows as the limit are the whole answer");
        for limit in [0, 1_000_001] {
            let refused = shop.try_ask("SELECT 1", limit).await;
            assert!(matches!(refused, Err(SqlError::Invalid(_))), "{limit}: {refused:?}");
        }
    }
}

async fn shop_with(limits: SqlLimits) -> Shop {
    let shop = Shop::open(limits).await;
    for batch in many_spans(150).0 {
        shop.append(batch).await;
    }
    shop
}

/// Sixty billion rows.
const ENDLESS: &str = "SELECT count(*) FROM spans a, spans b, spans c, spans d \
     WHERE a.duration_nanos + b.duration_nanos < c.duration_nanos - d.duration_nanos";

#[tokio::test]
async fn time_memory_and_size_are_bounded() {
    let shop = shop_with(SqlLimits { time_max: Duration::from_millis(200), ..SqlLimits::default() }).await;
    let late = shop.try_ask(ENDLESS, 10).await;
    assert!(matches!(late, Err(SqlError::Timeout { .. })), "{late:?}");

    let shop = shop_with(SqlLimits { memory_bytes_max: 20_000, ..SqlLimits::default() }).await;
    let large = shop.try_ask("SELECT span_id, count(*) FROM spans GROUP BY span_id", 10).await;
    assert!(matches!(large, Err(SqlError::Memory { .. })), "{large:?}");

    // What a scan reads is taken from the pool before it is read; no file is blamed.
    let shop = shop_with(SqlLimits { memory_bytes_max: 500, ..SqlLimits::default() }).await;
    shop.store.flush().await.expect("flushes");
    let scanned = shop.try_ask("SELECT name FROM spans WHERE attr('http.route') LIKE '%9'", 10).await;
    let Err(SqlError::Memory { detail, .. }) = scanned else { panic!("{scanned:?}") };
    assert!(detail.starts_with("the scan: "), "{detail}");

    let shop = shop_with(SqlLimits { answer_bytes_max: 1_000, ..SqlLimits::default() }).await;
    let answer = shop.try_ask("SELECT attributes FROM spans", 100_000).await.expect("answers");
    assert!(!answer.complete && answer.rows > 0, "{:?}", answer.partial_reason);
}

/// Statements are read by recursion; none may take the server down.
#[tokio::test]
async fn long_statements_do_no_harm() {
    let shop = shop_with(SqlLimits::default()).await;
    let chains = ["1 + ", "NOT ", "1 = 1 AND ", "1 = 2 OR ", "- ", "'a' || ", "("];
    for chain in chains {
        let statement = format!("SELECT {}1", chain.repeat(15_000 / chain.len()));
        let answered = shop.try_ask(&statement, 10).await;
        assert!(!matches!(answered, Err(SqlError::Ended)), "{chain}: {answered:?}");
    }
    let unions = vec!["SELECT 1"; 300].join(" UNION ALL ");
    assert_eq!(shop.ask(&unions).await.rows, 300);
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    assert!(matches!(shop.try_ask(&long, 10).await, Err(SqlError::Invalid(_))));
}

#[tokio::test]
async fn statements_end_when_nobody_waits_for_them() {
    let shop =
        shop_with(SqlLimits { concurrent_max: 1, time_max: Duration::from_secs(600), ..SqlLimits::default() }).await;
    let request = || SqlRequest { query: ENDLESS.to_owned(), rows_max: 10 };
    let tenant = TenantId::default();
    let waited = tokio::time::timeout(Duration::from_millis(200), shop.engine.query(&tenant, request())).await;
    assert!(waited.is_err(), "it is endless");
    // More of them than may be ending at once find a place only as the first have really ended.
    for _ in 0..4 {
        let mut waits = 0;
        loop {
            let waited = tokio::time::timeout(Duration::from_millis(20), shop.engine.query(&tenant, request())).await;
            match waited {
                Err(_) => break,
                Ok(Err(SqlError::Busy { running: 1 })) if waits < 600 => waits += 1,
                Ok(other) => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Matches for minutes, at planning: nearly as many places of the pattern are reached at each letter as it has.
fn matches_for_minutes() -> String {
    let random = SystemRandomness::from_seed(3);
    let text: String = (0..50_000).map(|_| if random.next_u64().is_multiple_of(2) { 'a' } else { 'b' }).collect();
    let calls: Vec<String> = (0..200).map(|last| format!("regexp_like(t, '[ab]*a[ab]{{2000}}c{last}')")).collect();
    format!("SELECT {} FROM (SELECT '{text}' AS t)", calls.join(", "))
}

/// One match can't be interrupted, but between any two of them it is asked whether anybody waits.
#[tokio::test]
async fn statements_that_compute_end_when_nobody_waits_for_them() {
    let shop = shop_with(SqlLimits { concurrent_max: 1, ..SqlLimits::default() }).await;
    let (statement, tenant) = (matches_for_minutes(), TenantId::default());
    let begin = || {
        let request = SqlRequest { query: statement.clone(), rows_max: 10 };
        tokio::time::timeout(Duration::from_millis(50), shop.engine.query(&tenant, request))
    };
    assert!(begin().await.is_err(), "it takes minutes");
    assert_eq!(shop.ask("SELECT count(*) FROM spans").await.rows, 1);
    // Those that are still at a match count, so that only so many may be; then they have ended.
    for _ in 0..4 {
        let mut waits = 0;
        loop {
            match begin().await {
                Err(_) => break,
                Ok(Err(SqlError::Busy { running: 1 })) if waits < 600 => waits += 1,
                Ok(other) => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn patterns_that_take_too_long_are_refused() {
    let (shop, spans) = Shop::filled(Layout::Hot).await;
    for condition in [
        "name ~ 'a{100000}'",
        "name ~* '(a{1,500}){1,500}'",
        "name !~ '((a{50}){50}){50}'",
        "name SIMILAR TO '(a{100}){100}'",
        "regexp_like(name, '(a{100}){100}')",
        "regexp_count(name, '(a{100}){100}') > 0",
        "regexp_instr(name, '(a{100}){100}') > 0",
        "regexp_match(name, '(a{100}){100}') IS NULL",
        "regexp_replace(name, '(a{100}){100}', 'x') = name",
        "name ~ ('(a{100}){100}' || span_id)",
        "regexp_like('a', '(a{100}){100}')",
        &format!("name LIKE '{}'", "%a_".repeat(2_000)),
        &format!("name ILIKE '{}' || span_id", "%a_".repeat(2_000)),
    ] {
        match shop.try_ask(&format!("SELECT count(*) FROM spans WHERE {condition}"), 10).await {
            Err(SqlError::Invalid(detail)) => assert!(detail.contains("are matched"), "{condition:.80}: {detail}"),
            other => panic!("{condition:.80}: {other:?}"),
        }
    }
    let long =
        "SELECT string_agg(attributes, '') AS t FROM (SELECT a.attributes FROM spans AS a, generate_series(1, 40))";
    let ended = shop.try_ask(&format!("SELECT t ~ '[ab]*a[ab]{{4000}}c' FROM ({long})"), 10).await;
    assert!(matches!(&ended, Err(SqlError::Memory { detail, .. }) if detail.contains("too long")), "{ended:?}");
    // The bounds change nothing else.
    for (condition, expected) in [
        ("name ~ '^GET'", "name LIKE 'GET%'"),
        ("name ~* '^get'", "name LIKE 'GET%'"),
        ("name !~ '^GET'", "name NOT LIKE 'GET%'"),
        ("name SIMILAR TO '^(GET|POST).*'", "name LIKE 'GET%' OR name LIKE 'POST%'"),
        ("name NOT SIMILAR TO '^GET.*'", "name NOT LIKE 'GET%'"),
        ("name LIKE '%O_T%c_rt'", "name = 'POST /cart'"),
        ("name NOT LIKE '%O_T%c_rt'", "name <> 'POST /cart'"),
        ("name ILIKE 'p_st%'", "name = 'POST /cart'"),
        ("name LIKE substr(name, 1, 2) || '%'", "true"),
        ("name ~ ('^' || substr(name, 1, 2))", "true"),
        ("status_message ~ 'x' IS NULL", "status_message IS NULL"),
        ("regexp_like(name, '^(GET|SELECT)')", "name <> 'POST /cart'"),
        ("regexp_count(name, 'T') = 1", "true"),
    ] {
        let counted = |condition| format!("SELECT count(*) FROM spans WHERE {condition}");
        let (found, wanted) = (shop.rows(&counted(condition)).await, shop.rows(&counted(expected)).await);
        assert_eq!(found, wanted, "{condition}");
        assert_ne!(found, ["0"], "{condition} of {}", spans.len());
    }
}

fn stored_files(shop: &Shop) -> Vec<PathBuf> {
    let mut folders = vec![shop.folder.path().join("store")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "parquet") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Whatever is asked, also what could be answered without a look at the files.
#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    for query in [
        "SELECT name FROM spans",
        "SELECT count(*) FROM spans",
        "SELECT count(1) FROM (SELECT * FROM spans)",
        "SELECT max(start_time), count(*) FROM spans HAVING count(*) > 0",
        "SELECT (SELECT count(*) FROM spans) AS spans",
        "SELECT count(*) FROM traces",
    ] {
        let (shop, spans) = Shop::filled(Layout::Files).await;
        let files = stored_files(&shop);
        std::fs::write(&files[0], b"not a file of spans").expect("the file can be written");
        for attempt in ["the first time", "again"] {
            let answer = shop.ask(query).await;
            let reason = answer.partial_reason.unwrap_or_else(|| panic!("{query}: {attempt}: the answer is not whole"));
            assert!(!answer.complete && answer.rows > 0, "{query}: {reason}");
            let of_files = format!("of {} spans could not be read, in 1 of {} files", spans.len(), files.len());
            assert!(reason.contains(&of_files), "{query}: {attempt}: {reason}");
        }
    }
}

/// Also by the statement that finds the damage, in the middle of a row group of which rows were given.
#[tokio::test]
async fn rows_that_a_damaged_page_holds_are_left_out_and_counted() {
    const INTERVAL: i64 = 10_000_000;
    const PARTS: usize = 12;
    let (mut partial, mut whole, mut lost_whole, mut least) = (0, 0, 0, usize::MAX);
    for part in 1..PARTS {
        let shop = Shop::open(SqlLimits::default()).await;
        let (batches, spans) = many_spans_every(INTERVAL, 8_000);
        for batch in batches {
            shop.append(batch).await;
        }
        shop.store.flush().await.expect("flushes");
        let [file] = &stored_files(&shop)[..] else { panic!("all are in one hour") };
        let mut bytes = std::fs::read(file).expect("the file can be read");
        let at = bytes.len() * part / PARTS;
        bytes[at] ^= 4;
        std::fs::write(file, bytes).expect("the file can be written");
        let sum = async || {
            let answer = shop.ask("SELECT count(*), sum(duration_nanos) FROM spans").await;
            (rows_of(&answer), answer.partial_reason)
        };
        let before = sum().await;
        for attempt in ["the first time", "again"] {
            let answer = shop.ask("SELECT span_id, name, attributes, start_time FROM spans").await;
            assert_eq!(answer.complete, answer.rows == spans.len(), "{part}: {attempt}: {:?}", answer.partial_reason);
            let Some(reason) = &answer.partial_reason else { continue };
            let lost = spans.len() - answer.rows;
            assert!(reason.starts_with(&format!("{lost} of {} spans", spans.len())), "{part}: {attempt}: {reason}");
            least = least.min(lost);
            partial += 1;
        }
        // Of few rows: what of them can't be read is left out, and counted with all that the pages hold.
        let few = "SELECT trace_id, span_id, attr('http.route') FROM spans WHERE duration_nanos % 50 = 0";
        let (answer, all) = (shop.ask(few).await, spans.iter().filter(|span| span.duration_nanos % 50 == 0).count());
        // All rows need the dictionary of a column.
        let all_lost = answer.partial_reason.as_ref().is_some_and(|reason| reason.starts_with("28129 of 28129 "));
        assert!(answer.rows * 2 > all || all_lost, "{part}: {} of {all}: {:?}", answer.rows, answer.partial_reason);
        lost_whole += usize::from(all_lost);
        assert_eq!(answer.complete, answer.partial_reason.is_none() && answer.rows == all, "{part}");
        assert_eq!(sum().await, before, "{part}: what others lost is there for who does not need the damaged column");
        whole += usize::from(before.1.is_none());
    }
    assert!(partial > PARTS / 2, "most of a file is pages of these columns: {partial}");
    assert!(lost_whole <= 1, "most damage is in pages of rows: {lost_whole}");
    assert!(whole > PARTS / 2, "few pages are of the columns of the sum: {whole}");
    assert!(least * 3 < 28_129, "a page costs its rows, and not its row group: {least}");
}

#[tokio::test]
async fn tenants_are_apart() {
    let (shop, _) = Shop::filled(Layout::Mixed).await;
    let other: TenantId = TenantId::new("other").expect("a name");
    for table in ["spans", "traces", "events", "links"] {
        let request = SqlRequest { query: format!("SELECT * FROM {table}"), rows_max: 10 };
        assert_eq!(shop.engine.query(&other, request).await.expect("answers").rows, 0, "{table}");
    }
}
