use crate::any_value::AnyValue;
use crate::attributes::AttributeLists;
use crate::batch::SpanBatch;
use crate::ids::{SpanId, TraceId};
use crate::marks::Marks;
use crate::threshold::Threshold;

/// One span with all that belongs to it, for answers about single spans. Never used for many spans at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: SpanId,
    pub name: String,
    pub service_name: String,
    pub kind: u8,
    pub status_code: u8,
    pub status_message: String,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
    pub trace_state: String,
    pub flags: u32,
    pub sampling_threshold: Option<Threshold>,
    pub marks: Marks,
    pub attributes: Vec<(String, AnyValue)>,
    pub dropped_attributes: u32,
    pub events: Vec<Event>,
    pub dropped_events: u32,
    pub links: Vec<Link>,
    pub dropped_links: u32,
    pub resource_attributes: Vec<(String, AnyValue)>,
    pub resource_dropped_attributes: u32,
    pub resource_schema_url: String,
    pub scope_name: String,
    pub scope_version: String,
    pub scope_attributes: Vec<(String, AnyValue)>,
    pub scope_dropped_attributes: u32,
    pub scope_schema_url: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub time_unix_nanos: i64,
    pub name: String,
    pub attributes: Vec<(String, AnyValue)>,
    pub dropped_attributes: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub trace_state: String,
    pub flags: u32,
    pub attributes: Vec<(String, AnyValue)>,
    pub dropped_attributes: u32,
}

impl SpanBatch {
    /// The span of a row, with its texts.
    pub fn span(&self, row: usize) -> Span {
        let text = |code: u32| self.strings.get(code).to_owned();
        let resource = self.resource[row] as usize;
        let scope = self.scope[row] as usize;
        Span {
            trace_id: self.trace_id[row],
            span_id: self.span_id[row],
            parent_span_id: self.parent_span_id[row],
            name: text(self.name[row]),
            service_name: text(self.service_name(row)),
            kind: self.kind[row],
            status_code: self.status_code[row],
            status_message: text(self.status_message[row]),
            start_unix_nanos: self.start_unix_nanos[row],
            duration_nanos: self.duration_nanos[row],
            trace_state: text(self.trace_state[row]),
            flags: self.flags[row],
            sampling_threshold: Threshold::new(self.sampling_threshold[row]),
            marks: Marks(self.marks[row]),
            attributes: self.resolve(&self.attributes, row),
            dropped_attributes: self.dropped_attributes[row],
            events: self.event_range(row).map(|at| self.event(at)).collect(),
            dropped_events: self.dropped_events[row],
            links: self.link_range(row).map(|at| self.link(at)).collect(),
            dropped_links: self.dropped_links[row],
            resource_attributes: self.resolve(&self.resources.attributes, resource),
            resource_dropped_attributes: self.resources.dropped_attributes[resource],
            resource_schema_url: text(self.resources.schema_url[resource]),
            scope_name: text(self.scopes.name[scope]),
            scope_version: text(self.scopes.version[scope]),
            scope_attributes: self.resolve(&self.scopes.attributes, scope),
            scope_dropped_attributes: self.scopes.dropped_attributes[scope],
            scope_schema_url: text(self.scopes.schema_url[scope]),
        }
    }

    fn event(&self, at: usize) -> Event {
        Event {
            time_unix_nanos: self.events.time_unix_nanos[at],
            name: self.strings.get(self.events.name[at]).to_owned(),
            attributes: self.resolve(&self.events.attributes, at),
            dropped_attributes: self.events.dropped_attributes[at],
        }
    }

    fn link(&self, at: usize) -> Link {
        Link {
            trace_id: self.links.trace_id[at],
            span_id: self.links.span_id[at],
            trace_state: self.strings.get(self.links.trace_state[at]).to_owned(),
            flags: self.links.flags[at],
            attributes: self.resolve(&self.links.attributes, at),
            dropped_attributes: self.links.dropped_attributes[at],
        }
    }

    /// The attributes of one owner, with their texts.
    pub fn resolve(&self, lists: &AttributeLists, owner: usize) -> Vec<(String, AnyValue)> {
        lists.of(owner).map(|(key, value)| (self.strings.get(key).to_owned(), value.resolve(&self.strings))).collect()
    }
}
