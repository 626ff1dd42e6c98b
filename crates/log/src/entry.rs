use tracehouse_model::{SpanBatch, TenantId};

use crate::error::AppendError;
use crate::segment::{self, RecordKind};

/// Is told the number of a record once it is durable *and* visible, or why it is not.
type Done = tokio::sync::oneshot::Sender<Result<u64, AppendError>>;

/// A batch on its way into the log.
pub struct LogEntry {
    pub tenant: TenantId,
    pub kind: RecordKind,
    pub spans: SpanBatch,
    /// The record's body, encoded by the caller's thread: see [`segment::encode_body`].
    pub body: Vec<u8>,
    pub body_crc: u32,
    pub done: Done,
}

impl LogEntry {
    pub fn new(tenant: TenantId, kind: RecordKind, spans: SpanBatch, done: Done) -> Self {
        let exact = spans.into_exact();
        let body = segment::encode_body(&tenant, kind, &exact);
        let body_crc = crc32c::crc32c(&body);
        Self { tenant, kind, spans: exact.into_spans(), body, body_crc, done }
    }
}

/// A batch that is durable and now has to become visible to queries, if it is a new one.
pub struct DurableBatch {
    pub sequence: u64,
    pub tenant: TenantId,
    pub kind: RecordKind,
    pub spans: SpanBatch,
}
