//! Opening and closing spans: ids, flags, parents, clocks.

use super::{Recorded, SPANS_PER_REQUEST_MAX, Simulation};
use crate::attribute::{int, text};
use crate::fleet::MemberId;
use crate::problems::{Problem, TraceId};
use crate::shop::Language;
use crate::shop::scopes::Library;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Event, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use rand::Rng;
use std::borrow::Cow;

pub(super) type SpanId = [u8; 8];

/// Sampled, and the low 56 bits of the trace id are random (W3C Trace Context level 2).
const TRACE_FLAGS: u32 = 0x03;
/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK` and `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK` of OTLP.
const HAS_IS_REMOTE: u32 = 0x100;
const IS_REMOTE: u32 = 0x200;

/// What travels from one process to the next.
#[derive(Clone)]
pub(super) struct Context {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub trace_state: &'static str,
}

/// A span that has not ended.
pub(super) struct Open {
    pub context: Context,
    pub member: MemberId,
    pub library: Library,
    pub children: u32,
    /// The thread the process handles the request on, where its agent says so.
    thread: Option<Thread>,
    pub span: Span,
}

#[derive(Clone, Copy)]
struct Thread {
    pool: &'static str,
    number: i64,
}

/// How something went wrong, as the caller sees it.
#[derive(Clone)]
pub(super) struct Failure {
    pub http_status: u16,
    pub grpc_code: u8,
    pub error_type: Cow<'static, str>,
    pub message: String,
    /// Empty where nothing was thrown.
    pub stacktrace: String,
}

/// What a new span is made of besides its place in the tree.
pub(super) struct Opening {
    pub name: String,
    pub kind: SpanKind,
    pub library: Library,
    pub at: u64,
}

impl Simulation<'_> {
    pub(super) fn new_trace_id(&mut self) -> TraceId {
        self.rng.random()
    }

    /// A span without a parent.
    pub(super) fn open_root(
        &mut self,
        member: MemberId,
        trace_id: TraceId,
        trace_state: &'static str,
        opening: Opening,
    ) -> Open {
        let context = Context { trace_id, span_id: [0; 8], trace_state };
        let mut open = self.open(member, &context, false, opening);
        self.choose_thread(&mut open);
        open
    }

    /// A span within the same process.
    pub(super) fn open_child(&mut self, parent: &mut Open, opening: Opening) -> Open {
        parent.children += 1;
        let mut open = self.open(parent.member, &parent.context.clone(), false, opening);
        open.run_on(parent.thread);
        open
    }

    /// A span in another process, whose parent arrived with the request.
    pub(super) fn open_remote(&mut self, member: MemberId, parent: &Context, opening: Opening) -> Open {
        let mut open = self.open(member, parent, true, opening);
        self.choose_thread(&mut open);
        open
    }

    fn open(&mut self, member: MemberId, parent: &Context, remote: bool, opening: Opening) -> Open {
        let span_id: SpanId = self.rng.random::<u64>().max(1).to_be_bytes();
        let parent_span_id = if parent.span_id == [0; 8] { Vec::new() } else { parent.span_id.to_vec() };
        let span = Span {
            trace_id: parent.trace_id.to_vec(),
            span_id: span_id.to_vec(),
            trace_state: parent.trace_state.to_owned(),
            parent_span_id,
            flags: TRACE_FLAGS | HAS_IS_REMOTE | if remote { IS_REMOTE } else { 0 },
            name: opening.name,
            kind: opening.kind as i32,
            start_time_unix_nano: opening.at,
            ..Default::default()
        };
        let context = Context { span_id, ..parent.clone() };
        Open { context, member, library: opening.library, children: 0, thread: None, span }
    }

    /// Java agents say on which thread a span ran; a request stays on the thread that took it.
    fn choose_thread(&mut self, open: &mut Open) {
        if self.world.fleet.member(open.member).service.language != Language::Java {
            return;
        }
        let pool = match open.library {
            Library::Messaging => "kafka-consumer",
            Library::HttpServer => "http-nio-8080-exec",
            Library::Rpc => "grpc-default-executor",
            _ => "task",
        };
        open.run_on(Some(Thread { pool, number: self.rng.random_range(1..24) }));
    }

    /// Ends a span at `end` by true time and stamps it with its host's clock.
    pub(super) fn close(&mut self, mut open: Open, end: u64) {
        assert!(self.spans.len() < SPANS_PER_REQUEST_MAX, "the tables bound the spans of a request");
        open.span.end_time_unix_nano = end;
        let skew = self.world.fleet.member(open.member).skew_nanos;
        if skew != 0 {
            shift(&mut open.span, skew);
            self.inject(Problem::ClockSkew, open.context.trace_id, "", 1);
        }
        self.spans.push(Recorded { member: open.member, library: open.library, span: open.span });
    }
}

impl Open {
    fn run_on(&mut self, thread: Option<Thread>) {
        self.thread = thread;
        if let Some(Thread { pool, number }) = thread {
            self.attributes([int("thread.id", 30 + number), text("thread.name", format!("{pool}-{number}"))]);
        }
    }

    pub(super) fn attributes(&mut self, attributes: impl IntoIterator<Item = KeyValue>) {
        self.span.attributes.extend(attributes);
    }

    pub(super) fn event(&mut self, name: &str, at: u64, attributes: Vec<KeyValue>) {
        self.span.events.push(Event { time_unix_nano: at, name: name.to_owned(), attributes, ..Default::default() });
    }

    pub(super) fn fail(&mut self, message: impl Into<String>) {
        self.span.status = Some(Status { message: message.into(), code: StatusCode::Error as i32 });
    }

    pub(super) fn exception(&mut self, failure: &Failure, at: u64) {
        if failure.stacktrace.is_empty() {
            return;
        }
        let attributes = vec![
            text("exception.type", failure.error_type.clone()),
            text("exception.message", failure.message.clone()),
            text("exception.stacktrace", failure.stacktrace.clone()),
        ];
        self.event("exception", at, attributes);
    }
}

fn shift(span: &mut Span, nanos: i64) {
    let shifted = |time: u64| time.saturating_add_signed(nanos);
    span.start_time_unix_nano = shifted(span.start_time_unix_nano);
    span.end_time_unix_nano = shifted(span.end_time_unix_nano);
    for event in &mut span.events {
        event.time_unix_nano = shifted(event.time_unix_nano);
    }
}
