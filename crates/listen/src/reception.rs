//! Takes each request of a connection: judges it, records it, passes it on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderValue, Request, Version};
use http_body::{Body as _, SizeHint};
use hyper::body::Incoming;
use tower::ServiceExt;

use crate::answer_body::AnswerBody;
use crate::begun::{Begun, unshared};
use crate::connection::stream_end;
use crate::connections::{Connection, reason};
use crate::exchange::Exchange;
use crate::refusal;
use crate::request_body::RequestBody;
use crate::serve::Port;
use crate::sites::{Verdict, say_what_it_depends_on};
use crate::unread::Unread;

/// The service of one connection.
#[derive(Clone)]
pub(crate) struct Reception {
    pub(crate) port: Arc<Port>,
    pub(crate) connection: Arc<Connection>,
}

impl hyper::service::Service<Request<Incoming>> for Reception {
    type Response = Response<AnswerBody>;
    /// How a stream of HTTP/2 is reset that was never looked at.
    type Error = h2::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, h2::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        // Here and not when it is first polled: from now on the connection is not idle.
        let exchange = Exchange::begin(&self.connection);
        let port = self.port.clone();
        let (head, body) = request.into_parts();
        let is_http1 = head.version < Version::HTTP_2;
        let head = if is_http1 { head } else { unshared(head) };
        let has_room = Begun::take(&self.connection, &head).map(|begun| exchange.set_begun(begun)).is_some();
        if !has_room {
            self.connection.port.count_request_ended(reason::NO_ROOM);
            if !is_http1 {
                return Box::pin(std::future::ready(Err(h2::Reason::REFUSED_STREAM.into())));
            }
        }
        Box::pin(async move {
            if let Some(end) = stream_end() {
                exchange.set_stream(&end);
            }
            // In HTTP/1 it runs as soon as it is there.
            if !exchange.start() && !is_http1 {
                return Err(h2::Reason::REFUSED_STREAM.into());
            }
            let body = RequestBody::new(Body::new(body), exchange.clone());
            let (response, reader) = match port.sites.judge(&head) {
                Verdict::Answered(response) => {
                    drop(body);
                    (response, None)
                }
                Verdict::Allowed(reader) if has_room => (answer(&port.router, head, body, &exchange).await, reader),
                Verdict::Allowed(reader) => {
                    drop(body);
                    (refusal::too_many_requests(), reader)
                }
            };
            exchange.answer();
            let (mut response, whole) = counted(response, &exchange);
            if is_http1 && exchange.is_body_left() {
                // hyper ends the connection: a client that is not told sends its next request in vain.
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            say_what_it_depends_on(response.headers_mut());
            if let Some(reader) = reader {
                reader.allow(response.headers_mut());
            }
            Ok(response.map(|body| AnswerBody::new(body, exchange, whole)))
        })
    }
}

/// The router's answer, unless there is no room for one, or the request's body did not come.
async fn answer(router: &Router, head: Parts, body: RequestBody, exchange: &Arc<Exchange>) -> Response {
    let connection = &exchange.connection;
    if !connection.port.room.is_there_for(connection) {
        connection.port.count_request_ended(reason::NO_ROOM);
        return refusal::no_room();
    }
    let response = match router.clone().oneshot(Request::from_parts(head, Body::new(body))).await {
        Ok(response) => response,
        Err(never) => match never {},
    };
    if exchange.is_body_late() { refusal::late_body() } else { response }
}

/// Counts an answer whose length is known; if there is no room for it, another takes its place.
fn counted(mut response: Response, exchange: &Exchange) -> (Response, Option<Unread>) {
    // Who compresses an answer leaves here how much of it is in memory.
    let in_memory = response.extensions_mut().remove::<SizeHint>();
    let hint = in_memory.unwrap_or_else(|| response.body().size_hint());
    let Some(bytes) = hint.exact() else { return (response, None) };
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let connection = &exchange.connection;
    if let Some(unread) = Unread::reserve(connection, bytes) {
        return (response, Some(unread));
    }
    connection.port.count_request_ended(reason::NO_ROOM);
    (refusal::no_room(), None)
}
