//! Follows the log behind a position while it is written.
//!
//! What is read here was acknowledged a moment ago, so anything but the record that must come next is damage, and is told: only a
//! start may decide that a record was cut off by a crash.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracehouse_disk::DiskError;
use tracehouse_model::SpanBatch;

use crate::entry::DurableBatch;
use crate::error::FeedError;
use crate::pieces::Pieces;
use crate::segment::{self, HEADER_BYTES, Header, MAGIC, SegmentName};
use crate::shared::Shared;
use crate::span_log::SpanFeed;

/// See [`SpanLog::feed`](crate::SpanLog::feed).
pub(crate) struct Feed {
    log: Arc<Shared>,
    position: u64,
    open: Option<OpenSegment>,
}

struct OpenSegment {
    path: PathBuf,
    salt: Option<u64>,
    pieces: Pieces,
    /// Where the next record begins.
    offset: u64,
}

impl Feed {
    pub(crate) fn new(log: Arc<Shared>, position: u64) -> Self {
        Self { log, position, open: None }
    }

    /// The segment that the next record is in.
    fn segment(&mut self) -> Result<&mut OpenSegment, FeedError> {
        let wanted = self.position + 1;
        let (path, first) = self.log.segments.lock().holding(wanted);
        if first > wanted {
            return Err(FeedError::Gone { first: wanted, last: first - 1 });
        }
        let open = match self.open.take() {
            Some(open) if open.path == path => open,
            _ => OpenSegment::at(&self.log, path)?,
        };
        Ok(self.open.insert(open))
    }

    fn read_next(&mut self) -> Result<DurableBatch, FeedError> {
        let wanted = self.position + 1;
        let segment = self.segment()?;
        loop {
            let Some(header) = segment.header()? else { return Err(segment.damaged(wanted)) };
            let (begin, end) = (segment.offset + HEADER_BYTES as u64, segment.offset + header.bytes());
            if header.sequence > wanted {
                return Err(FeedError::Gone { first: wanted, last: header.sequence - 1 });
            }
            if header.sequence == wanted {
                let batch = segment.batch(header, begin..end)?.ok_or_else(|| segment.damaged(wanted))?;
                segment.offset = end;
                return Ok(batch);
            }
            segment.offset = end;
        }
    }
}

impl SpanFeed for Feed {
    fn position(&self) -> u64 {
        self.position
    }

    fn next_batch(&mut self) -> Result<Option<DurableBatch>, FeedError> {
        if self.position >= self.log.acknowledged() {
            return Ok(None);
        }
        // Whatever failed is read again from the segment's beginning.
        let batch = self.read_next().inspect_err(|_| self.open = None)?;
        self.position = batch.sequence;
        Ok(Some(batch))
    }

    fn pass_over(&mut self, up_to: u64) {
        self.position = self.position.max(up_to);
    }
}

impl OpenSegment {
    fn at(log: &Shared, path: PathBuf) -> Result<Self, FeedError> {
        let failed = |source| reading(&path, source);
        let mut pieces = Pieces::of(log.disk.open_to_read(&path)?).map_err(failed)?;
        let offset = segment::begin(pieces.from(0, MAGIC.len()).map_err(failed)?) as u64;
        let salt = SegmentName::of(&path).and_then(|name| name.salt);
        Ok(Self { path, salt, pieces, offset })
    }

    fn header(&mut self) -> Result<Option<Header>, FeedError> {
        let failed = |source| reading(&self.path, source);
        if self.offset + HEADER_BYTES as u64 > self.pieces.bytes() {
            self.pieces.look_again().map_err(failed)?;
        }
        let bytes = self.pieces.from(self.offset, HEADER_BYTES).map_err(failed)?;
        Ok(Header::of(bytes, self.salt))
    }

    fn batch(&mut self, header: Header, body: std::ops::Range<u64>) -> Result<Option<DurableBatch>, FeedError> {
        let failed = |source| reading(&self.path, source);
        if body.end > self.pieces.bytes() {
            self.pieces.look_again().map_err(failed)?;
        }
        if body.end > self.pieces.bytes() || self.pieces.crc(body.clone()).map_err(failed)? != header.body_crc {
            return Ok(None);
        }
        let body = self.pieces.read(body).map_err(failed)?;
        let Some((tenant, kind, encoded)) = segment::split_body(&body) else { return Ok(None) };
        let batch = |spans| DurableBatch { sequence: header.sequence, tenant, kind, spans };
        Ok(SpanBatch::decode(encoded).ok().map(batch))
    }

    fn damaged(&self, sequence: u64) -> FeedError {
        FeedError::Damaged { sequence, path: self.path.clone(), offset: self.offset }
    }
}

fn reading(path: &Path, source: std::io::Error) -> FeedError {
    DiskError { action: "reading", path: path.to_owned(), source }.into()
}
