//! Finds the spans that files hold twice: for a file that was not compared with the others of its tenant when they were
//! written. Files never change, so of two that hold the same spans one is written anew without them.

use std::ops::Range;
use std::sync::Arc;

use parquet::errors::ParquetError;
use tracehouse_model::{SpanBatch, TraceId};
use tracehouse_spanfile::{OpenFile, Projection, RowRef, TraceFilter, is_damage};

use crate::copies::{COMPARED_AT_ONCE_MAX, COMPARED_BYTES_MAX, Found, StoredCopies, TraceGroup, whole_or_what_is_left};
use crate::span_file::SpanFile;

/// A file that is to be written anew without some of its rows.
pub(crate) struct Rewrite {
    pub(crate) file: Arc<SpanFile>,
    pub(crate) without: LeftOut,
}

/// Rows of a file that other files hold too.
#[derive(Debug, Default)]
pub(crate) struct LeftOut {
    /// For each row of the file, from the first to the last of them.
    is_left_out: Vec<bool>,
    rows: u64,
    /// How many the file has. What the catalogue says of it is never a reason to leave all of it out.
    of: u64,
}

impl LeftOut {
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether nothing of the file is left.
    pub(crate) fn is_all(&self) -> bool {
        self.rows == self.of
    }

    pub(crate) fn has(&self, row: usize) -> bool {
        self.is_left_out.get(row).copied().unwrap_or(false)
    }

    fn add(&mut self, row: usize) {
        if self.has(row) {
            return;
        }
        self.is_left_out.resize(self.is_left_out.len().max(row + 1), false);
        self.is_left_out[row] = true;
        self.rows += 1;
    }
}

/// Why files could not be compared.
pub(crate) enum CompareError {
    /// The file itself could not be read.
    Itself(ParquetError),
    /// The machine could not read these.
    Others(Vec<Arc<SpanFile>>),
}

/// What has to be done so that a file and others of its tenant, which hold no copies of one another, hold each span once.
/// Nothing is written anew of which a part can't be read: that would throw the rest away.
pub(crate) fn untangle(file: &Arc<SpanFile>, others: &[Arc<SpanFile>]) -> Result<Vec<Rewrite>, CompareError> {
    let others: Vec<Arc<SpanFile>> = others.iter().filter(|other| may_share(file, other)).cloned().collect();
    if others.is_empty() {
        return Ok(Vec::new());
    }
    if !is_damaged(file) {
        match copies_in(file, &others) {
            Ok(without) if without.rows() == 0 => return Ok(Vec::new()),
            Ok(without) => return Ok(vec![Rewrite { file: file.clone(), without }]),
            // Some of it can be read all the same.
            Err(CompareError::Itself(error)) if file.check(&error) || is_damaged(file) => {}
            Err(error) => return Err(error),
        }
    }
    let mut rewrites = Vec::new();
    for other in others {
        if is_damaged(&other) {
            tracing::warn!(
                path = file.record.path,
                other = other.record.path,
                "two damaged files may hold the same spans, which then count twice"
            );
            continue;
        }
        match copies_in(&other, std::slice::from_ref(file)) {
            Ok(without) if without.rows() == 0 => {}
            Ok(without) => rewrites.push(Rewrite { file: other, without }),
            Err(CompareError::Itself(error)) if is_damage(&error) => drop(other.check(&error)),
            Err(CompareError::Itself(_)) => return Err(CompareError::Others(vec![other])),
            Err(CompareError::Others(_)) => return Err(CompareError::Itself(out_of_reach(file))),
        }
    }
    Ok(rewrites)
}

fn out_of_reach(file: &SpanFile) -> ParquetError {
    ParquetError::General(format!("the file {} is out of reach", file.record.path))
}

fn is_damaged(file: &SpanFile) -> bool {
    file.record.lost_spans > 0 || file.is_suspected()
}

/// Whether two files have spans of the same time.
fn may_share(one: &SpanFile, other: &SpanFile) -> bool {
    one.record.id != other.record.id
        && one.record.start_min <= other.record.start_max
        && other.record.start_min <= one.record.start_max
}

/// The rows of a file that others hold too. Only rows whose traces may be in another file are read.
fn copies_in(file: &Arc<SpanFile>, others: &[Arc<SpanFile>]) -> Result<LeftOut, CompareError> {
    let mut left_out = LeftOut::default();
    let filters = filters_of(others)?;
    if filters.is_empty() {
        return Ok(left_out);
    }
    let open = file.open().map_err(|error| CompareError::Itself(error.source))?;
    let ids = file.ids(&open).map_err(CompareError::Itself)?;
    let at_once = ((COMPARED_BYTES_MAX / open.row_bytes()) as usize).clamp(1, COMPARED_AT_ONCE_MAX);
    let mut first_row = 0;
    for row_group in 0..open.row_groups() {
        let may_be_shared = |trace: TraceId| filters.iter().any(|filter| filter.may_contain(trace));
        let suspected = ids.traces_of(row_group).filter(|(trace, _)| may_be_shared(*trace)).map(|(_, rows)| rows);
        for ranges in in_pieces(suspected, at_once) {
            for row in copies_among(&open, row_group, &ranges, others)? {
                left_out.add(first_row + row);
            }
        }
        first_row += open.rows_of(row_group);
    }
    left_out.of = first_row as u64;
    Ok(left_out)
}

/// What tells which traces are in some files. A file of which nothing can be read has none.
fn filters_of(files: &[Arc<SpanFile>]) -> Result<Vec<Arc<TraceFilter>>, CompareError> {
    let (mut filters, mut unread) = (Vec::new(), Vec::new());
    for file in files {
        match whole_or_what_is_left(file, || file.filter().map_err(|error| error.source)) {
            Ok(filter) => filters.push(filter),
            Err(error) if is_damage(&error) => {}
            Err(_) => unread.push(file.clone()),
        }
    }
    if unread.is_empty() { Ok(filters) } else { Err(CompareError::Others(unread)) }
}

/// Joins ranges that follow one another, and splits them into pieces of so many rows.
fn in_pieces(ranges: impl Iterator<Item = Range<usize>>, rows_max: usize) -> Vec<Vec<Range<usize>>> {
    let mut pieces: Vec<Vec<Range<usize>>> = Vec::new();
    let mut room = 0;
    for mut range in ranges {
        while !range.is_empty() {
            if room == 0 {
                pieces.push(Vec::new());
                room = rows_max;
            }
            let end = range.end.min(range.start + room);
            room -= end - range.start;
            if let Some(piece) = pieces.last_mut() {
                match piece.last_mut() {
                    Some(last) if last.end == range.start => last.end = end,
                    _ => piece.push(range.start..end),
                }
            }
            range.start = end;
        }
    }
    pieces
}

/// The rows of a row group among some that other files hold too.
fn copies_among(
    open: &OpenFile,
    row_group: usize,
    ranges: &[Range<usize>],
    others: &[Arc<SpanFile>],
) -> Result<Vec<usize>, CompareError> {
    let spans = open.read_ranges(row_group, ranges, Projection::All).map_err(CompareError::Itself)?;
    let rows: Vec<usize> = ranges.iter().cloned().flatten().collect();
    let refs: Vec<RowRef> = (0..spans.len() as u32).map(|row| RowRef { batch: 0, row }).collect();
    let batches: [&SpanBatch; 1] = [&spans];
    let same_trace =
        |left: &RowRef, right: &RowRef| spans.trace_id[left.row as usize] == spans.trace_id[right.row as usize];
    let groups: Vec<TraceGroup<'_>> = refs
        .chunk_by(same_trace)
        .map(|rows| {
            let starts = rows.iter().map(|at| spans.start_unix_nanos[at.row as usize]);
            TraceGroup::new(spans.trace_id[rows[0].row as usize], rows, starts)
        })
        .collect();
    let Found { copies, unread } = StoredCopies::among_all(others, &batches).find(&groups);
    if !unread.is_empty() {
        return Err(CompareError::Others(unread));
    }
    Ok(copies.into_iter().map(|copy| rows[copy.row as usize]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_all_rows_and_no_more_than_they_may() {
        for rows_max in 1..12 {
            let ranges = [0..3, 3..4, 6..6, 7..20, 21..22];
            let pieces = in_pieces(ranges.iter().cloned(), rows_max);
            let rows_of = |piece: &Vec<Range<usize>>| piece.iter().cloned().flatten().collect::<Vec<usize>>();
            assert!(pieces.iter().all(|piece| (1..=rows_max).contains(&rows_of(piece).len())), "{pieces:?}");
            let all: Vec<usize> = pieces.iter().flat_map(rows_of).collect();
            assert_eq!(all, ranges.iter().cloned().flatten().collect::<Vec<usize>>());
        }
    }
}
