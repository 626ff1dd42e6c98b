//! The row groups of many files, side by side.
//!
//! A thread opens a file when no row group of an open one waits, so that there are at most as many open files as threads,
//! however many files there are.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};
use parquet::errors::ParquetError;
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;

use crate::bounds::Bounds;
use crate::fault::Contents;
use crate::reach::{Part, Reach};
use crate::rows::RowGroup;

/// It is not worth a further thread to read fewer spans.
const SPANS_PER_THREAD_MIN: u64 = 32 * 1024;

/// A row group to be read.
pub struct Piece<'f> {
    /// Number among the files that were given.
    pub number: u32,
    pub file: &'f Arc<SpanFile>,
    pub open: Arc<OpenFile>,
    pub contents: Contents,
    pub row_group: usize,
    of_file: Arc<OfFile>,
}

impl Piece<'_> {
    /// The row group, to look for rows in.
    pub fn rows<'p>(&'p self, bounds: &'p Bounds) -> RowGroup<'p> {
        RowGroup { bounds, open: &self.open, contents: &self.contents, number: self.row_group }
    }
}

/// What is left to do of a file.
struct OfFile {
    row_groups_left: AtomicUsize,
}

/// How far the reading of files came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    /// Files of which everything that can be read was.
    pub files: usize,
    /// Rows of the row groups that were read.
    pub rows: u64,
    /// Whether nothing is left to do.
    pub all: bool,
}

/// Does a piece of work on each row group of some files, several at once, until a bound is met. Each thread adds to
/// something of its own, which `begin` makes; gives all of them. What can't be read is left out and counted in `reach`.
///
/// The work must change nothing before all that it needs was read: it is done twice if it fails.
pub fn each_row_group<'f, T: Send>(
    bounds: &Bounds,
    reach: &Reach,
    files: &[&'f Arc<SpanFile>],
    begin: impl Fn() -> T + Sync,
    work: impl Fn(&Piece<'f>, &mut T) -> Result<(), ParquetError> + Sync,
) -> (Vec<T>, Done) {
    let queue = Queue { bounds, reach, files, state: Mutex::default(), opened: Condvar::new() };
    let (all, files_done, rows_done) = (Mutex::new(Vec::new()), AtomicUsize::new(0), AtomicU64::new(0));
    // Row groups of one file keep several threads busy, too.
    let pieces = files.iter().map(|file| file.record.spans.div_ceil(SPANS_PER_THREAD_MIN).max(1)).sum::<u64>();
    let threads = usize::try_from(pieces).unwrap_or(usize::MAX);
    bounds.on_threads(threads, || {
        let mut own = begin();
        loop {
            let mut piece = match queue.next() {
                Next::Piece(piece) => piece,
                Next::NothingReadable => {
                    files_done.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Next::End => break,
            };
            let rows = piece.open.rows_of(piece.row_group) as u64;
            let (opened, file, part) = (piece.open.clone(), piece.file, Part::RowGroup(piece.row_group));
            reach.attempt_with(Some(&opened), file, part, rows, |open| {
                piece.open = open.clone();
                work(&piece, &mut own)
            });
            // What was ended in the middle is not done.
            if bounds.exceeded() {
                break;
            }
            rows_done.fetch_add(rows, Ordering::Relaxed);
            if piece.of_file.row_groups_left.fetch_sub(1, Ordering::Relaxed) == 1 {
                files_done.fetch_add(1, Ordering::Relaxed);
            }
        }
        all.lock().push(own);
    });
    let files_done = files_done.into_inner();
    let done = Done { files: files_done, rows: rows_done.into_inner(), all: files_done == files.len() };
    (all.into_inner(), done)
}

struct Queue<'q, 'f> {
    bounds: &'q Bounds,
    reach: &'q Reach,
    files: &'q [&'f Arc<SpanFile>],
    state: Mutex<QueueState<'f>>,
    /// Notified when a file was opened.
    opened: Condvar,
}

#[derive(Default)]
struct QueueState<'f> {
    /// Row groups of files that are open.
    waiting: VecDeque<Piece<'f>>,
    next_file: usize,
    /// Threads that are opening a file, whose row groups are not known yet.
    opening: usize,
}

enum Next<'f> {
    Piece(Piece<'f>),
    /// A file of which nothing can be read, or that is empty.
    NothingReadable,
    End,
}

impl<'f> Queue<'_, 'f> {
    fn next(&self) -> Next<'f> {
        let Some(number) = self.next_file_or_piece() else { return Next::End };
        let number = match number {
            Ok(piece) => return Next::Piece(piece),
            Err(number) => number,
        };
        let file = self.files[number];
        let opening = Opening(self);
        let Some(open) = self.reach.open(file) else { return Next::NothingReadable };
        let contents = Contents::of_open(file, &open);
        let row_groups = open.row_groups();
        let of_file = Arc::new(OfFile { row_groups_left: AtomicUsize::new(row_groups) });
        let piece = |row_group| {
            let (open, contents, of_file) = (open.clone(), contents.clone(), of_file.clone());
            Piece { number: number as u32, file, open, contents, row_group, of_file }
        };
        if row_groups == 0 {
            return Next::NothingReadable;
        }
        self.state.lock().waiting.extend((1..row_groups).map(piece));
        drop(opening);
        Next::Piece(piece(0))
    }

    /// A row group of an open file, or the number of the file to open next; `None` at the end.
    fn next_file_or_piece(&self) -> Option<Result<Piece<'f>, usize>> {
        let mut state = self.state.lock();
        loop {
            if self.bounds.exceeded() {
                return None;
            }
            if let Some(piece) = state.waiting.pop_front() {
                return Some(Ok(piece));
            }
            if state.next_file < self.files.len() {
                state.next_file += 1;
                state.opening += 1;
                return Some(Err(state.next_file - 1));
            }
            if state.opening == 0 {
                return None;
            }
            self.opened.wait(&mut state);
        }
    }
}

/// A thread that opens a file: others wait for the row groups, even if it panics.
struct Opening<'a, 'q, 'f>(&'a Queue<'q, 'f>);

impl Drop for Opening<'_, '_, '_> {
    fn drop(&mut self) {
        self.0.state.lock().opening -= 1;
        self.0.opened.notify_all();
    }
}
