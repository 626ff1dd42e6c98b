//! Row groups of many files: each is read once, and what fails costs itself alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parquet::errors::ParquetError;
use tracehouse_scan::{Done, Piece, Pool, Reach, Window, each_row_group, no_room};
use tracehouse_store::{Snapshot, SpanFile, Unreadable, UnreadableReason};

use crate::stored::Stored;

const EVER: std::ops::Range<i64> = i64::MIN..i64::MAX;

fn files(snapshot: &Snapshot) -> Vec<&Arc<SpanFile>> {
    snapshot.files.iter().collect()
}

fn broken() -> ParquetError {
    ParquetError::General("a page has another checksum".into())
}

fn io_error() -> ParquetError {
    ParquetError::External(Box::new(std::io::Error::from_raw_os_error(5)))
}

#[tokio::test]
async fn every_row_group_is_read_once() {
    let stored = Stored::files(20, 3).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(1 << 20));
    let ((bounds, _), reach) = (stored.bounds(&pool), Reach::of(&snapshot, &Window::starting(EVER)));
    let files = files(&snapshot);
    let (all, done) = each_row_group(&bounds, &reach, &files, Vec::new, |piece: &Piece<'_>, own| {
        own.push((piece.number, piece.row_group));
        Ok(())
    });
    let mut read: Vec<(u32, usize)> = all.into_iter().flatten().collect();
    read.sort_unstable();
    assert_eq!(read, (0..20).map(|number| (number, 0)).collect::<Vec<_>>());
    assert_eq!(done, Done { files: 20, rows: 60, all: true });
    assert_eq!(reach.partial_reason(), None);
}

#[tokio::test]
async fn what_fails_once_is_done_again_and_what_fails_twice_is_left_out() {
    type Fails = fn(usize) -> Option<ParquetError>;
    /// What happens to the first file at its first and further attempts, and what is then said.
    const CASES: [(Fails, Option<&str>); 4] = [
        (|_| None, None),
        (|attempt| (attempt == 0).then(io_error), None),
        (|_| Some(io_error()), Some("3 of 60 spans could not be read, in 1 of 20 files")),
        (|_| Some(broken()), Some("a page has another checksum")),
    ];
    let stored = Stored::files(20, 3).await;
    let snapshot = stored.snapshot();
    for (fails, said) in CASES {
        let pool = Pool::new(1 << 20);
        let ((bounds, _), reach) = (stored.bounds(&pool), Reach::of(&snapshot, &Window::starting(EVER)));
        let attempts = AtomicUsize::new(0);
        let (all, done) = each_row_group(
            &bounds,
            &reach,
            &files(&snapshot),
            || 0,
            |piece, own| {
                if piece.number == 0 {
                    let attempt = attempts.fetch_add(1, Ordering::Relaxed);
                    fails(attempt).map_or(Ok(()), Err)?;
                }
                *own += piece.open.rows_of(piece.row_group);
                Ok(())
            },
        );
        let (read, reason) = (all.iter().sum::<usize>(), reach.partial_reason());
        assert!(done.all, "the others are read");
        match said {
            None => assert_eq!((read, reason), (60, None)),
            Some(said) => {
                assert_eq!(read, 57);
                assert!(reason.is_some_and(|reason| reason.contains(said) && reason.contains(" of 60 spans")));
                assert_eq!(reach.files_lost(), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_question_without_memory_blames_no_file() {
    let stored = Stored::files(5, 3).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(1 << 10));
    let ((bounds, _), reach) = (stored.bounds(&pool), Reach::of(&snapshot, &Window::starting(EVER)));
    let (_, done) = each_row_group(
        &bounds,
        &reach,
        &files(&snapshot),
        || (),
        |_, ()| bounds.held(1 << 20).map(drop).map_err(no_room),
    );
    assert!(!done.all);
    assert_eq!(reach.partial_reason(), None);
    assert!(bounds.stopped(0, 5, "files read").starts_with("stopped at 1024 B of memory: 0 of 5 files read"));
}

#[tokio::test]
async fn the_end_of_the_time_ends_it() {
    let stored = Stored::files(20, 3).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(1 << 20));
    let ((bounds, _), reach) = (stored.bounds(&pool), Reach::of(&snapshot, &Window::starting(EVER)));
    let read = AtomicUsize::new(0);
    let (_, done) = each_row_group(
        &bounds,
        &reach,
        &files(&snapshot),
        || (),
        |_, ()| {
            if read.fetch_add(1, Ordering::Relaxed) == 5 {
                stored.clock.advance(Duration::from_secs(11));
            }
            Ok(())
        },
    );
    assert!(!done.all && done.files < 10, "{done:?}");
    assert!(bounds.stopped(done.files, 20, "files read").starts_with("stopped after 10.0 s: "));
}

#[tokio::test]
async fn nobody_waits_any_more() {
    let stored = Stored::files(20, 3).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(1 << 20));
    let ((bounds, cancelled), reach) = (stored.bounds(&pool), Reach::of(&snapshot, &Window::starting(EVER)));
    let (_, done) = each_row_group(
        &bounds,
        &reach,
        &files(&snapshot),
        || (),
        |_, ()| {
            cancelled.store(true, Ordering::Relaxed);
            Ok(())
        },
    );
    assert_eq!(done.files, 0);
}

/// Once, six files of which nothing was known were told as "0 of 0 spans".
#[tokio::test]
async fn files_of_unknown_size_are_not_said_to_be_empty() {
    let stored = Stored::files(2, 3).await;
    let unreadable = |number: i64, spans| Unreadable {
        path: format!("{number}.parquet"),
        spans,
        start_min: number,
        start_max: number,
        end_max: None,
        reason: UnreadableReason::Unknown,
    };
    let cases = [
        (vec![unreadable(1, 0)], "an unknown number of spans could not be read, in 1 of 3 files"),
        (vec![unreadable(1, 0), unreadable(2, 0)], "an unknown number of spans could not be read, in 2 of 4 files"),
        (
            vec![unreadable(1, 0), unreadable(2, 4)],
            "4 of 10 spans and an unknown number of others could not be read, in 2 of 4 files",
        ),
        (vec![unreadable(2, 4)], "4 of 10 spans could not be read, in 1 of 3 files"),
        (
            // More files than are told apart.
            (0..1500).map(|number| unreadable(number, u64::from(number < 1200))).collect(),
            "1200 of 1206 spans and an unknown number of others could not be read, in 1500 of 1502 files",
        ),
    ];
    for (files, expected) in cases {
        let mut snapshot = stored.snapshot();
        snapshot.unreadable = Arc::new(files);
        let reason = Reach::of(&snapshot, &Window::starting(EVER)).partial_reason().expect("it is partial");
        assert!(reason.starts_with(expected), "{reason}");
    }
}
