//! What the gRPC interfaces share: who calls, limits of time and of messages, and errors as gRPC has them.

use std::future::Future;

use http::{HeaderMap, StatusCode};
use prost::Message;
use tonic::metadata::MetadataValue;
use tonic::{Request, Response, Status};
use tracehouse_model::Caller;

use crate::QUERY_TIMEOUT;
use crate::answer::PARTIAL_NAME;
use crate::caller::caller_of;
use crate::problem::Problem;
use crate::state::ApiState;

/// About how large a message may be. Many clients take none above 4 MiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// The largest question, without its compression. Over HTTP the longest path and query are a fraction of this.
pub(crate) const QUESTION_BYTES_MAX: usize = 256 * 1024;
/// What the key and the length of an item take in the message around it.
const ITEM_BYTES_EXTRA: usize = 8;

/// Takes questions in any of the compressions that clients use, which are undone up to [`QUESTION_BYTES_MAX`], and answers in
/// the one that a client asks for.
macro_rules! with_compression {
    ($server:expr) => {
        $server
            .max_decoding_message_size($crate::grpc::QUESTION_BYTES_MAX)
            .accept_compressed(tonic::codec::CompressionEncoding::Gzip)
            .accept_compressed(tonic::codec::CompressionEncoding::Zstd)
            .send_compressed(tonic::codec::CompressionEncoding::Gzip)
            .send_compressed(tonic::codec::CompressionEncoding::Zstd)
    };
}
pub(crate) use with_compression;

/// Who makes a call, as its metadata say.
pub(crate) fn caller<T>(state: &ApiState, request: &Request<T>) -> Result<Caller, Status> {
    let headers: HeaderMap = request.metadata().clone().into_headers();
    Ok(caller_of(&headers, state)?)
}

/// What `work` gives, if it does so in time.
pub(crate) async fn in_time<T, E: Into<Problem>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Status> {
    match tokio::time::timeout(QUERY_TIMEOUT, work).await {
        Ok(outcome) => outcome.map_err(|error| error.into().into()),
        Err(_) => Err(Problem::timeout(QUERY_TIMEOUT).into()),
    }
}

/// Metadata say why an answer is not whole, as most messages have no place for it.
pub(crate) fn with_partial<T>(mut response: Response<T>, reason: Option<String>) -> Response<T> {
    if let Some(reason) = reason.and_then(|reason| MetadataValue::try_from(reason).ok()) {
        response.metadata_mut().insert(PARTIAL_NAME, reason);
    }
    response
}

/// The items of an answer, divided so that each part fits into a message; at least one part. An item that is too large by
/// itself is a part of its own.
pub(crate) fn in_parts<T: Message>(items: Vec<T>) -> Vec<Vec<T>> {
    let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let item_bytes = item.encoded_len() + ITEM_BYTES_EXTRA;
        if !part.is_empty() && bytes + item_bytes > MESSAGE_BYTES_MAX {
            parts.push(std::mem::take(&mut part));
            bytes = 0;
        }
        bytes += item_bytes;
        part.push(item);
    }
    parts.push(part);
    parts
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match status {
            StatusCode::NOT_FOUND => Status::not_found(problem.detail),
            StatusCode::FORBIDDEN => Status::permission_denied(problem.detail),
            StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(problem.detail),
            StatusCode::GATEWAY_TIMEOUT => Status::deadline_exceeded(problem.detail),
            refused if refused.is_client_error() => Status::invalid_argument(problem.detail),
            _ => Status::internal(problem.detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_into_messages() {
        const HALF: usize = MESSAGE_BYTES_MAX / 2;
        let table: [(&[usize], &[usize]); 7] = [
            (&[], &[0]),
            (&[1, 1, 1], &[3]),
            (&[HALF, HALF], &[1, 1]),
            (&[HALF, HALF - 100, 1], &[3]),
            (&[HALF, HALF - 100, 100], &[2, 1]),
            (&[3 * MESSAGE_BYTES_MAX, 1], &[1, 1]),
            (&[1, 3 * MESSAGE_BYTES_MAX, 1], &[1, 1, 1]),
        ];
        for (lengths, expected) in table {
            let parts = in_parts(lengths.iter().map(|length| "x".repeat(*length)).collect());
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{lengths:?}");
        }
    }
}
