use tracehouse_model::{SpanBatch, TenantId};

use super::segment::{self, RecordKind};
use crate::error::AppendError;

/// Is told the number of a record once it is durable *and* visible, or why it is not.
pub(crate) type Done = tokio::sync::oneshot::Sender<Result<u64, AppendError>>;

/// A batch on its way into the log.
pub(crate) struct LogEntry {
    pub(crate) tenant: TenantId,
    pub(crate) kind: RecordKind,
    pub(crate) spans: SpanBatch,
    /// The record's body, encoded by the caller's thread: see [`segment::encode_body`].
    pub(crate) body: Vec<u8>,
    pub(crate) body_crc: u32,
    pub(crate) done: Done,
}

impl LogEntry {
    pub(crate) fn new(tenant: TenantId, kind: RecordKind, spans: SpanBatch, done: Done) -> Self {
        let exact = spans.into_exact();
        let body = segment::encode_body(&tenant, kind, &exact);
        let body_crc = crc32c::crc32c(&body);
        Self { tenant, kind, spans: exact.into_spans(), body, body_crc, done }
    }
}

/// A batch that is durable and now has to become visible to queries, if it is a new one.
pub(crate) struct DurableBatch {
    pub(crate) sequence: u64,
    pub(crate) tenant: TenantId,
    pub(crate) kind: RecordKind,
    pub(crate) spans: SpanBatch,
}
