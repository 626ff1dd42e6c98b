//! OTLP in JSON.

use tracehouse_model::Limits;

use crate::decoded::{DecodeError, Decoded};

/// Decodes an `ExportTraceServiceRequest` in JSON.
pub fn decode_export_request(_bytes: &[u8], _limits: &Limits) -> Result<Decoded, DecodeError> {
    Err(DecodeError::Json("JSON is not read yet".to_owned()))
}
