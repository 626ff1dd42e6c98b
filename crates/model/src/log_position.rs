use crate::TenantId;

/// How far a partition of a log stands in files: everything up to and including `position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    /// The partition's name. A log on one disk has one; each partition of a Kafka topic is one of its own, with numbers of its own.
    pub log: String,
    /// Whose spans; `None`: everyone's.
    pub tenant: Option<TenantId>,
    pub position: u64,
}
