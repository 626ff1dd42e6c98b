//! What files say of parents where spans share an id: the row of the one above, and the id that was sent.

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int32Type;
use tracehouse_model::{Span, SpanId, TenantId, kind};
use tracehouse_spanfile::StringForm;
use tracehouse_store::Store;

use crate::spans::{NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append};

const CLIENT: u64 = 0x22;

/// A span with the name of what it is.
fn span(name: &str, trace: u128, id: u64, parent: u64, kind: u8, start: i64) -> Span {
    Span { name: name.to_owned(), kind, ..plain_span(trace, id, parent, NOON + start) }
}

/// A call whose two sides share an id, in two traces: a small one and one that is searched by tables.
fn calls(named_by_server: u64) -> Vec<Span> {
    let call = |trace: u128| {
        [
            span("page", trace, 0x11, 0, kind::SERVER, 0),
            span("call", trace, CLIENT, 0x11, kind::CLIENT, 10),
            span("answer", trace, CLIENT, named_by_server, kind::SERVER, 5),
            span("work", trace, 0x33, CLIENT, kind::INTERNAL, 30),
            span("lost", trace, 0x44, 0x99, kind::INTERNAL, 40),
        ]
    };
    let others = (0..40).map(|number| span("other", 2, 0x1000 + number, 0x11, kind::INTERNAL, 50 + number as i64));
    call(1).into_iter().chain(call(2)).chain(others).collect()
}

/// Of each span of the only file its name, the name of the one that its offset leads to, and the id that is written out.
fn stored(store: &Store) -> Vec<(String, Option<String>, Option<u64>)> {
    let snapshot = store.snapshot(&TenantId::default());
    let [file] = snapshot.files.as_slice() else { panic!("one file") };
    let open = file.open().expect("opens");
    let columns = ["name", "parent_offset", "parent_span_id"];
    let batches = open.scan(0, &columns, None, StringForm::View, 1000).expect("can be read");
    let batches: Vec<_> = batches.map(|batch| batch.expect("can be read")).collect();
    let [batch] = batches.as_slice() else { panic!("one batch") };
    let names = batch.column_by_name("name").expect("is there").as_string_view();
    let offsets = batch.column_by_name("parent_offset").expect("is there").as_primitive::<Int32Type>();
    let ids = batch.column_by_name("parent_span_id").expect("is there").as_fixed_size_binary();
    let row = |row: usize| {
        let above = offsets.is_valid(row).then(|| names.value((row as i32 - offsets.value(row)) as usize).to_owned());
        let id = ids.is_valid(row).then(|| u64::from_be_bytes(ids.value(row).try_into().expect("eight bytes")));
        (names.value(row).to_owned(), above, id)
    };
    (0..batch.num_rows()).map(row).filter(|(name, ..)| name != "other").collect()
}

/// The server's half stands beneath the client's, and what it named is kept: for a call that was sent at once, and for one whose halves come in
/// two files that are merged.
#[tokio::test(flavor = "multi_thread")]
async fn offsets_lead_to_the_other_half() {
    for named_by_server in [0x11, 0, CLIENT, 0x99] {
        let spans = calls(named_by_server);
        let text = |text: &str| Some(text.to_owned());
        // The server's clock is behind: its half comes first.
        let call = [
            ("page", None, None),
            ("answer", text("call"), (named_by_server > 0).then_some(named_by_server)),
            ("call", text("page"), None),
            ("work", text("answer"), None),
            ("lost", None, Some(0x99)),
        ];
        let call = call.map(|(name, above, id)| (name.to_owned(), above, id));
        let expected = [call.clone(), call].concat();
        for halves_apart in [false, true] {
            let world = World::new();
            let store = world.open().await;
            let (first, second): (Vec<Span>, Vec<Span>) =
                spans.iter().cloned().partition(|span| !halves_apart || span.name == "answer");
            append(&store, batch_of(&first)).await;
            store.flush().await.expect("flushes");
            if halves_apart {
                append(&store, batch_of(&second)).await;
                store.flush().await.expect("flushes");
            } else {
                assert_eq!(stored(&store), expected, "names {named_by_server:x}, flushed");
            }
            store.compact().await.expect("merges");
            let what = format!("names {named_by_server:x}, halves apart: {halves_apart}, merged");
            assert_eq!(stored(&store), expected, "{what}");
            let snapshot = store.snapshot(&TenantId::default());
            assert_same_spans(&what, &all_spans(&snapshot), &by_key(&spans), 1);
            let part =
                snapshot.files[0].open().expect("opens").read_rows(0, 1..2, tracehouse_spanfile::Projection::All);
            let named = part.expect("can be read").parent_span_id[0];
            assert_eq!(named, SpanId(named_by_server.to_be_bytes()), "{what}, read alone");
        }
    }
}
