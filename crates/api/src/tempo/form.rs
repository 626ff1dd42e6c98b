//! In which of its two forms a client wants an answer.

use axum::response::Response;
use http::header::{ACCEPT, VARY};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use serde::Serialize;

use super::shared::Found;
use crate::answer::{JSON, PROTOBUF, large, with_partial_header};
use crate::problem::Problem;
use crate::state::ApiState;

/// JSON, or the protobuf message that the JSON is made from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    Json,
    Protobuf,
}

impl Form {
    /// As Tempo decides: protobuf if the client offers to take it, whatever else it takes.
    pub(super) fn wanted(headers: &HeaderMap) -> Self {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let protobuf = accepted.flat_map(|value| value.split(',')).any(|offer| {
            let media_type = offer.split(';').next().unwrap_or_default().trim();
            media_type.eq_ignore_ascii_case("application/protobuf")
                || media_type.eq_ignore_ascii_case("application/x-protobuf")
        });
        if protobuf { Self::Protobuf } else { Self::Json }
    }

    pub(super) fn content_type(self) -> HeaderValue {
        match self {
            Self::Json => JSON,
            Self::Protobuf => PROTOBUF,
        }
    }

    pub(super) fn write(self, message: &(impl Message + Serialize)) -> Vec<u8> {
        match self {
            Self::Json => serde_json::to_vec(message).expect("writing plain data to memory can't fail"),
            Self::Protobuf => message.encode_to_vec(),
        }
    }
}

/// An answer in the form that its client wants; `items` says how large it is.
pub(super) async fn respond<T: Message + Serialize + 'static>(
    state: &ApiState,
    headers: &HeaderMap,
    items: usize,
    found: Found<T>,
) -> Result<Response, Problem> {
    let form = Form::wanted(headers);
    let Found { answer, partial_reason } = found;
    let response = large(state, headers, items, form.content_type(), move || form.write(&answer)).await?;
    Ok(with_partial_header(by_form(response), partial_reason))
}

/// Says that another client may get the same answer in another form.
pub(super) fn by_form(mut response: Response) -> Response {
    response.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_for_those_who_take_it() {
        let table = [
            ("", Form::Json),
            ("*/*", Form::Json),
            ("application/json", Form::Json),
            ("application/protobuf", Form::Protobuf),
            ("application/json, Application/Protobuf;q=0.5", Form::Protobuf),
            ("application/x-protobuf", Form::Protobuf),
            ("application/protobuffer", Form::Json),
        ];
        for (accept, form) in table {
            let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Form::wanted(&headers), form, "{accept}");
        }
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Json);
    }
}
