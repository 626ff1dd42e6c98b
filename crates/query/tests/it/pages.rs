//! Conditions that are each frequent and together rare: what of their columns is read, and that nothing else matters.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, TenantId, TraceId, kind};
use tracehouse_query::{SearchAnswer, SearchRequest, TraceDetail};
use tracehouse_spanfile::Part;

use crate::shop::{NOON, Shop, put};

const SPANS: u64 = 45_000;
const SPANS_PER_TRACE: u64 = 10;
/// Spans of the seldom service: the first ones, and one far behind them.
const SELDOM: u64 = 200;
const SELDOM_BEHIND: u64 = 30_000;
const SELDOM_TRACES: usize = (SELDOM / SPANS_PER_TRACE) as usize + 1;

/// Each span has another, and none compresses well.
fn request(number: u64) -> String {
    // Multipliers of SplitMix64.
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    format!("{mixed:016x}{:016x}", (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb))
}

fn batch() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let [seldom, often] = ["seldom", "often"].map(|service| {
        let service = AnyValue::String(service.to_owned());
        put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &service);
        batch.finish_resource(0, 0)
    });
    let scope = batch.finish_scope(0, 0, 0, 0);
    let name = batch.strings.intern_str("GET");
    for number in 0..SPANS {
        if number % 3 > 0 {
            let customer = AnyValue::String(format!("c-{}", number % 40));
            put(&mut batch.strings, &mut batch.attributes, "customer", &customer);
        }
        let request = AnyValue::String(request(number));
        put(&mut batch.strings, &mut batch.attributes, "request", &request);
        batch.finish_span(SpanFields {
            trace_id: TraceId(u128::from(number / SPANS_PER_TRACE + 1).to_be_bytes()),
            span_id: SpanId((number + 1).to_be_bytes()),
            start_unix_nanos: NOON + number as i64,
            duration_nanos: 5 + (number * 65_537 % 1_000_003) as i64,
            name,
            resource: if number < SELDOM || number == SELDOM_BEHIND { seldom } else { often },
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

async fn one_file() -> Shop {
    let shop = Shop::open().await;
    shop.append(batch()).await;
    shop.store.flush().await.expect("flushes");
    shop
}

async fn search(shop: &Shop, conditions: &str) -> SearchAnswer {
    let traceql = Some(format!("{{ {conditions} }}"));
    let request = SearchRequest { traceql, limit: 1500, ..SearchRequest::default() };
    shop.engine.search(&TenantId::default(), request).await.expect("a valid search")
}

#[tokio::test]
async fn pages_are_read_only_for_rows_that_are_left() {
    let shop = one_file().await;
    let open = shop.store.snapshot(&TenantId::default()).files[0].open().expect("it opens");
    let all = |column: &str| open.bytes_of(0, Some(&[column]));
    // What no index and no dictionary has is known before any row is read, whichever condition it stands in.
    for nothing in ["duration > 1h", "span.customer = \"nobody\"", "span.customer = 7", "resource.service.name = true"]
    {
        for others in ["resource.service.name = \"often\" && span.customer = \"c-7\"", "duration > 1ns"] {
            for conditions in [format!("{nothing} && {others}"), format!("{others} && {nothing}")] {
                let answer = search(&shop, &conditions).await;
                assert_eq!((answer.traces.len(), answer.inspected.bytes), (0, 0), "{conditions}");
            }
        }
    }
    // No span of the service is so short.
    for conditions in [
        "resource.service.name = \"seldom\" && duration = 6ns",
        "duration = 6ns && resource.service.name = \"seldom\"",
        "(duration = 6ns || duration = 7ns) && resource.service.name = \"seldom\"",
    ] {
        let answer = search(&shop, conditions).await;
        assert_eq!(answer.traces.len(), 0, "{conditions}");
        let most = all("resource.service.name") + all("duration_nanos") * 3 / 4;
        assert!(answer.inspected.bytes > 0 && answer.inspected.bytes < most, "{conditions}: {:?}", answer.inspected);
    }
}

/// Where the pages of a column begin in the file.
fn pages(path: &Path, column: &str) -> Vec<u64> {
    let file = File::open(path).expect("it is there");
    let metadata = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = metadata.parse_and_finish(&file).expect("it can be read");
    let columns = metadata.file_metadata().schema_descr().columns();
    let leaf = columns.iter().position(|known| known.path().string() == column).expect("it has the column");
    let offsets = metadata.offset_index().and_then(|index| index.first()?.get(leaf)).expect("it has an index");
    offsets.page_locations().iter().map(|page| page.offset as u64).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_that_no_row_in_question_has_is_not_met() {
    const CONDITIONS: &str = "resource.service.name = \"seldom\" && duration > 1ns";
    let mut shop = one_file().await;
    let path = shop.files()[0].clone();
    let intact = std::fs::read(&path).expect("it is there");
    let whole = search(&shop, CONDITIONS).await;
    assert_eq!((whole.traces.len(), &whole.partial_reason), (SELDOM_TRACES, &None));
    let pages = pages(&path, "duration_nanos");
    assert!(pages.len() > 6, "{} pages", pages.len());
    for (number, is_met) in [(0, true), (2, false), (pages.len() - 1, false)] {
        let mut bytes = intact.clone();
        bytes[pages[number] as usize + 60] ^= 1;
        std::fs::write(&path, bytes).expect("it can be written");
        shop = shop.restart().await;
        // Also once it is known what of the file is damaged.
        for _ in 0..2 {
            let answer = search(&shop, CONDITIONS).await;
            assert_eq!(answer.partial_reason.is_some(), is_met, "page {number}: {:?}", answer.partial_reason);
            let found = if is_met { 1 } else { SELDOM_TRACES };
            assert_eq!(answer.traces.len(), found, "page {number}");
            assert!(is_met || format!("{:?}", answer.traces) == format!("{:?}", whole.traces), "page {number}");
            let every = search(&shop, "duration > 1ns").await;
            assert!(every.partial_reason.is_some(), "page {number}: every row is in question");
        }
    }
}

#[tokio::test]
async fn a_text_that_few_spans_have_is_looked_for_in_few_pages() {
    let shop = one_file().await;
    let mut read = Vec::new();
    for is_merged in [false, true] {
        if is_merged {
            shop.store.compact().await.expect("it is merged");
        }
        let open = shop.store.snapshot(&TenantId::default()).files[0].open().expect("it opens");
        let all = open.bytes_of(0, Some(&["span.request"]));
        let mut of_texts = 0;
        for number in [0, 7, SELDOM - 1, SELDOM, 20_011, SELDOM_BEHIND, SPANS - 1, SPANS, SPANS + 1] {
            let (own, other) = (request(number), request(number + 5));
            let is_there = usize::from(number < SPANS);
            let is_seldom = usize::from(number < SELDOM || number == SELDOM_BEHIND);
            let has_customer = usize::from(number % 3 > 0 && number < SPANS);
            for (conditions, expected) in [
                (format!("span.request = \"{own}\""), is_there),
                (format!(".request = \"{own}\""), is_there),
                (format!("span.request = \"{own}\" && resource.service.name = \"seldom\""), is_seldom),
                (format!("resource.service.name = \"often\" && span.request = \"{own}\""), is_there - is_seldom),
                (format!("duration > 1ns && span.request = \"{own}\" && span.customer =~ \"c-.*\""), has_customer),
                (format!("span.request = \"{own}\" && span.request = \"{other}\""), 0),
                (format!("(span.request = \"{own}\" || span.request = \"{own}x\") && duration > 1ns"), is_there),
                (format!("span.request != \"{own}\" && span.request =~ \"{own}.*\""), 0),
            ] {
                let answer = search(&shop, &conditions).await;
                assert_eq!((answer.traces.len(), &answer.partial_reason), (expected, &None), "{number}: {conditions}");
            }
            let conditions = format!("span.request = \"{own}\" && resource.service.name = \"nobody\"");
            assert_eq!(search(&shop, &conditions).await.inspected.bytes, 0, "{number}");
            if number >= SPANS {
                of_texts += search(&shop, &format!("span.request = \"{own}\"")).await.inspected.bytes;
            }
        }
        read.push(of_texts as f64 / all as f64);
    }
    assert!(read[0] >= 2.0 && read[1] < 1.0, "of the column, for two texts that nobody has: {read:?}");
}

/// What stands beside the rows spares reading them. Damaged, it costs time alone; before, no status named it.
#[tokio::test(flavor = "multi_thread")]
async fn damage_beside_the_rows_changes_no_answer_and_is_told() {
    /// What takes few bytes stands last.
    const LAST_BYTES: usize = 3000;
    let mut shop = one_file().await;
    shop.store.compact().await.expect("it is merged");
    let tenant = TenantId::default();
    let open = shop.store.snapshot(&tenant).files[0].open().expect("it opens");
    let [path] = &shop.files()[..] else { panic!("there is one file") };
    let (path, intact) = (path.clone(), std::fs::read(path).expect("it is there"));
    let last_page = column_ends(&path).into_iter().max().expect("it has columns");
    let beside = last_page..intact.len() - open.tail_bytes() as usize;
    drop(open);
    let whole = ask_all(&shop).await;
    let mut told: BTreeSet<Part> = BTreeSet::new();
    let of_all = beside.clone().step_by(beside.len() / 16);
    for place in of_all.chain(beside.clone().skip(beside.len() - LAST_BYTES).step_by(LAST_BYTES / 50)) {
        let mut bytes = intact.clone();
        bytes[place] ^= 1;
        std::fs::write(&path, bytes).expect("it can be written");
        shop = shop.restart().await;
        assert_eq!(ask_all(&shop).await, whole, "{place}");
        let troubles = shop.store.troubles().concat();
        let open = shop.store.snapshot(&tenant).files[0].open().expect("it opens");
        let damaged = open.damaged_parts().expect("it can be read");
        let of_file = damaged.iter().filter(|part| troubles.contains(&part.to_string()));
        told.extend(of_file.clone());
        assert_eq!(of_file.count() == 0, troubles.is_empty(), "{place}: {troubles}");
    }
    let all = [Part::TraceFilter, Part::Names, Part::ValueFilter, Part::PageFilters];
    assert_eq!(told, all.into_iter().collect(), "each was met in some place");
}

/// Where the columns of the file end.
fn column_ends(path: &Path) -> Vec<usize> {
    let file = File::open(path).expect("it is there");
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file).expect("it can be read");
    let columns = metadata.row_groups().iter().flat_map(|row_group| row_group.columns());
    columns.map(|column| column.byte_range()).map(|(begin, bytes)| (begin + bytes) as usize).collect()
}

/// Answers that each part of a file beside its rows helps to find.
async fn ask_all(shop: &Shop) -> Vec<String> {
    let tenant = TenantId::default();
    let mut answers = Vec::new();
    for number in (0..SPANS / SPANS_PER_TRACE).step_by(90) {
        let trace_id = TraceId(u128::from(number + 1).to_be_bytes());
        let trace = shop.engine.trace(&tenant, trace_id, 1000, TraceDetail::Whole).await.expect("it can be read");
        let trace = trace.expect("it is there");
        answers.push(format!("{:?} {:?}", trace.spans.len(), trace.partial_reason));
    }
    for number in [3, 20_011, SPANS] {
        for conditions in [
            format!("span.request = \"{}\"", request(number)),
            format!("span.customer = \"c-{number}\" && duration > 1ns"),
            format!("resource.service.name = \"seldom\" && span.nothing = {number}"),
        ] {
            let answer = search(shop, &conditions).await;
            answers.push(format!("{:?} {:?}", answer.traces, answer.partial_reason));
        }
    }
    answers
}

/// What calls are about only adorns a trace: damage there costs no span, and is told to whoever asks for it.
#[tokio::test]
async fn damage_of_what_calls_are_about_costs_no_span() {
    let mut called = batch();
    for number in 0..SPANS {
        let url = AnyValue::String(format!("http://{}/", request(number)));
        put(&mut called.strings, &mut called.attributes, "url.full", &url);
        let (resource, scope, name) = (called.resource[0], called.scope[0], called.name[0]);
        called.finish_span(SpanFields {
            trace_id: TraceId([9; 16]),
            span_id: SpanId((number + 1).to_be_bytes()),
            start_unix_nanos: NOON + number as i64,
            kind: kind::CLIENT,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    let shop = Shop::open().await;
    shop.append(called).await;
    shop.store.flush().await.expect("flushes");
    let path = shop.files()[0].clone();
    let mut bytes = std::fs::read(&path).expect("it is there");
    let pages = pages(&path, "span.url.full");
    for page in &pages {
        bytes[*page as usize + 60] ^= 1;
    }
    std::fs::write(&path, bytes).expect("it can be written");
    let shop = shop.restart().await;
    // Also once it is known what of the file is damaged.
    for _ in 0..2 {
        for (detail, is_told) in [(TraceDetail::OutlineWithTargets, true), (TraceDetail::Outline, false)] {
            let trace = shop.engine.trace(&TenantId::default(), TraceId([9; 16]), usize::MAX, detail).await;
            let trace = trace.expect("it can be read").expect("it is there");
            assert_eq!(trace.spans.len() as u64, SPANS, "{detail:?}");
            assert_eq!(trace.partial_reason.is_some(), is_told, "{detail:?}: {:?}", trace.partial_reason);
        }
        for targets in [true, false] {
            let traceql = Some("{ kind = client }".to_owned());
            let request = SearchRequest { traceql, limit: 10, targets, ..SearchRequest::default() };
            let found = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
            assert_eq!(
                (found.traces.len(), found.partial_reason.is_some()),
                (1, targets),
                "{:?}",
                found.partial_reason
            );
            assert_eq!(found.traces[0].matched_count, SPANS);
        }
    }
}
