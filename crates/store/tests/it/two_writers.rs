//! Two stores over one catalogue, as when a second server is started by mistake: the one that finds out first stops, and
//! nothing of either is lost.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tracehouse_model::{Span, TenantId};
use tracehouse_store::{AppendError, Store, StoreConfig, WriteError};

use crate::spans::{NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append};

fn span(number: u64) -> Span {
    plain_span(u128::from(number), number, 0, NOON + number as i64)
}

/// A second store with a log of its own.
async fn open_second(world: &World) -> Arc<Store> {
    world.open_with(StoreConfig { log_dir: world.path().join("second-log"), ..world.config() }).await
}

fn assert_holds(what: &str, store: &Store, spans: &[Span]) {
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans(what, &found, &by_key(spans), 1);
}

/// What a store over another catalogue finds in a log.
async fn assert_log_holds(log: &Path, spans: &[Span]) {
    let other = World::new();
    fs::create_dir_all(other.log_dir()).expect("it can be made");
    for entry in fs::read_dir(log).expect("the log is there") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            fs::copy(&path, other.log_dir().join(path.file_name().expect("a name"))).expect("it can be copied");
        }
    }
    assert_holds("the log", &*other.open().await, spans);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_store_stops_and_loses_nothing() {
    for is_second_first in [false, true] {
        let world = World::new();
        let first = world.open().await;
        append(&first, batch_of(&[span(1)])).await;
        first.flush().await.expect("nobody else writes");
        let second = open_second(&world).await;
        append(&first, batch_of(&[span(2)])).await;
        append(&second, batch_of(&[span(3), span(4)])).await;
        let (winner, loser, log) = match is_second_first {
            false => (&first, &second, world.path().join("second-log")),
            true => (&second, &first, world.log_dir()),
        };
        winner.flush().await.expect("it knows where the position is");
        let files = world.files_ending_with("");
        let error = loser.flush().await.expect_err("the other moved the position");
        assert!(error.to_string().contains("another process writes the same catalogue"), "{error}");
        assert_eq!(world.files_ending_with(""), files, "nothing is left of what could not be committed");

        // It says so, takes no more, and shows what it has.
        let reason = loser.ready().expect_err("it has stopped");
        assert!(reason.contains("another process writes the same catalogue"), "{reason}");
        assert!(loser.troubles().contains(&reason));
        let refused = loser.append(TenantId::default(), batch_of(&[span(9)])).await;
        assert!(matches!(refused, Err(AppendError::Failed { .. })), "{refused:?}");
        for outcome in [loser.flush().await.map(|_| ()), loser.compact().await.map(|_| ())] {
            assert!(matches!(outcome, Err(WriteError::AnotherWrites { .. })), "{outcome:?}");
        }
        let unstored = if is_second_first { vec![span(2)] } else { vec![span(3), span(4)] };
        assert_holds("what it took", loser, &[unstored.as_slice(), &[span(1)]].concat());
        assert!(loser.shutdown().await.is_err(), "some of it is not stored");
        assert_log_holds(&log, &if is_second_first { vec![span(1), span(2)] } else { unstored.clone() }).await;

        // The other goes on.
        append(winner, batch_of(&[span(5)])).await;
        winner.flush().await.expect("nobody else moves positions");
        winner.compact().await.expect("it merges");
        winner.shutdown().await.expect("it stops");
        let own = if is_second_first { vec![span(3), span(4)] } else { vec![span(2)] };
        let expected = [own.as_slice(), &[span(1), span(5)]].concat();
        let config = StoreConfig { log_dir: world.path().join("no-log"), ..world.config() };
        assert_holds("the stored ones", &*world.open_with(config).await, &expected);
    }
}
