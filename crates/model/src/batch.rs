use crate::attributes::{AttributeLists, AttributeValue};
use crate::ids::{SpanId, TraceId};
use crate::marks::Marks;
use crate::strings::{Remap, StringCode, StringTable};
use crate::threshold::Threshold;

/// Spans of one tenant as columns over one table of strings.
///
/// Built by pushing a resource, its scopes, and under them spans: first a span's attributes, events and links, then
/// [`SpanBatch::finish_span`] with its fixed fields, or [`SpanBatch::discard_span`] to refuse it.
#[derive(Clone, Default)]
pub struct SpanBatch {
    pub strings: StringTable,

    pub trace_id: Vec<TraceId>,
    pub span_id: Vec<SpanId>,
    /// [`SpanId::NONE`] for a root.
    pub parent_span_id: Vec<SpanId>,
    pub start_unix_nanos: Vec<i64>,
    pub duration_nanos: Vec<i64>,
    pub name: Vec<StringCode>,
    pub kind: Vec<u8>,
    pub status_code: Vec<u8>,
    pub status_message: Vec<StringCode>,
    pub trace_state: Vec<StringCode>,
    pub flags: Vec<u32>,
    /// 56 bits, or [`Threshold::UNKNOWN_BITS`].
    pub sampling_threshold: Vec<u64>,
    pub marks: Vec<u16>,
    pub dropped_attributes: Vec<u32>,
    pub dropped_events: Vec<u32>,
    pub dropped_links: Vec<u32>,
    /// Index into `resources`.
    pub resource: Vec<u32>,
    /// Index into `scopes`.
    pub scope: Vec<u32>,
    pub attributes: AttributeLists,

    pub events: Events,
    pub links: Links,
    pub resources: Resources,
    pub scopes: Scopes,
}

/// What sent the spans, each once.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Resources {
    pub attributes: AttributeLists,
    pub dropped_attributes: Vec<u32>,
    pub schema_url: Vec<StringCode>,
    /// The string of `service.name`; 0, the empty string, if the resource has none.
    pub service_name: Vec<StringCode>,
}

/// Which instrumentation made the spans, each once.
#[derive(Clone, Default, PartialEq, Debug)]
pub struct Scopes {
    pub name: Vec<StringCode>,
    pub version: Vec<StringCode>,
    pub attributes: AttributeLists,
    pub dropped_attributes: Vec<u32>,
    pub schema_url: Vec<StringCode>,
}

/// Events of all spans; span `i` has `offsets[i]..offsets[i + 1]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Events {
    pub offsets: Vec<u32>,
    pub time_unix_nanos: Vec<i64>,
    pub name: Vec<StringCode>,
    pub dropped_attributes: Vec<u32>,
    pub attributes: AttributeLists,
}

/// Links of all spans; span `i` has `offsets[i]..offsets[i + 1]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Links {
    pub offsets: Vec<u32>,
    pub trace_id: Vec<TraceId>,
    pub span_id: Vec<SpanId>,
    pub trace_state: Vec<StringCode>,
    pub flags: Vec<u32>,
    pub dropped_attributes: Vec<u32>,
    pub attributes: AttributeLists,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            time_unix_nanos: Vec::new(),
            name: Vec::new(),
            dropped_attributes: Vec::new(),
            attributes: AttributeLists::default(),
        }
    }
}

impl Default for Links {
    fn default() -> Self {
        Self {
            offsets: vec![0],
            trace_id: Vec::new(),
            span_id: Vec::new(),
            trace_state: Vec::new(),
            flags: Vec::new(),
            dropped_attributes: Vec::new(),
            attributes: AttributeLists::default(),
        }
    }
}

/// The fixed fields of a span that is being added.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanFields {
    pub trace_id: TraceId,
    pub span_id: SpanId,
    pub parent_span_id: SpanId,
    pub start_unix_nanos: i64,
    pub duration_nanos: i64,
    pub name: StringCode,
    pub kind: u8,
    pub status_code: u8,
    pub status_message: StringCode,
    pub trace_state: StringCode,
    pub flags: u32,
    pub sampling_threshold: Option<Threshold>,
    pub marks: Marks,
    pub dropped_attributes: u32,
    pub dropped_events: u32,
    pub dropped_links: u32,
    pub resource: u32,
    pub scope: u32,
}

/// Beside its attributes, events, links and texts.
const FIXED_BYTES_PER_SPAN: usize = 16 + 8 + 8 + 8 + 8 + 4 + 1 + 1 + 4 + 4 + 4 + 8 + 2 + 12 + 4 + 4 + 8;
const BYTES_PER_EVENT: usize = 8 + 4 + 4 + 4;
const BYTES_PER_LINK: usize = 16 + 8 + 4 + 4 + 4 + 4;
const BYTES_PER_RESOURCE: usize = 4 + 4 + 4 + 4;
const BYTES_PER_SCOPE: usize = 4 + 4 + 4 + 4 + 4;

impl SpanBatch {
    pub fn new() -> Self {
        Self::default()
    }

    /// How many spans.
    #[inline]
    pub fn len(&self) -> usize {
        self.trace_id.len()
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.trace_id.is_empty()
    }

    /// Makes room for so many more spans.
    pub fn reserve(&mut self, spans: usize) {
        self.trace_id.reserve(spans);
        self.span_id.reserve(spans);
        self.parent_span_id.reserve(spans);
        self.start_unix_nanos.reserve(spans);
        self.duration_nanos.reserve(spans);
        self.name.reserve(spans);
        self.kind.reserve(spans);
        self.status_code.reserve(spans);
        self.status_message.reserve(spans);
        self.trace_state.reserve(spans);
        self.flags.reserve(spans);
        self.sampling_threshold.reserve(spans);
        self.marks.reserve(spans);
        self.dropped_attributes.reserve(spans);
        self.dropped_events.reserve(spans);
        self.dropped_links.reserve(spans);
        self.resource.reserve(spans);
        self.scope.reserve(spans);
        self.attributes.reserve(spans);
        self.events.offsets.reserve(spans);
        self.links.offsets.reserve(spans);
    }

    /// Finishes the resource whose attributes were pushed to `resources.attributes`; returns its index.
    pub fn finish_resource(&mut self, dropped_attributes: u32, schema_url: StringCode) -> u32 {
        // Not interned: the table holds no string that nothing uses.
        let service_key = self.strings.find(b"service.name");
        let resources = &mut self.resources;
        let index = resources.attributes.owners();
        resources.attributes.finish_owner();
        let service = match service_key.and_then(|key| resources.attributes.get(index, key)) {
            Some(AttributeValue::String(code)) => code,
            _ => 0,
        };
        resources.service_name.push(service);
        resources.dropped_attributes.push(dropped_attributes);
        resources.schema_url.push(schema_url);
        index as u32
    }

    /// Gives every resource an attribute, for batches that are made for an answer. It takes the place of one under the same key.
    pub fn put_on_resources(&mut self, key: &str, value: &str) {
        let (key, value) = (self.strings.intern_str(key), self.strings.intern_str(value));
        let before = std::mem::take(&mut self.resources.attributes);
        for resource in 0..before.owners() {
            for (key, value) in before.of(resource) {
                self.resources.attributes.push(key, value);
            }
            self.resources.attributes.push(key, AttributeValue::String(value));
            self.resources.attributes.finish_owner();
        }
    }

    /// Finishes the scope whose attributes were pushed to `scopes.attributes`; returns its index.
    pub fn finish_scope(
        &mut self,
        name: StringCode,
        version: StringCode,
        dropped_attributes: u32,
        schema_url: StringCode,
    ) -> u32 {
        let scopes = &mut self.scopes;
        let index = scopes.attributes.owners();
        scopes.attributes.finish_owner();
        scopes.name.push(name);
        scopes.version.push(version);
        scopes.dropped_attributes.push(dropped_attributes);
        scopes.schema_url.push(schema_url);
        index as u32
    }

    /// Takes back the last finished resource, which no span has; its strings stay in the table.
    pub fn take_back_resource(&mut self) {
        let resources = &mut self.resources;
        let kept = resources.service_name.len() - 1;
        resources.attributes.truncate_owners(kept);
        resources.service_name.truncate(kept);
        resources.dropped_attributes.truncate(kept);
        resources.schema_url.truncate(kept);
    }

    /// Takes back the last finished scope, which no span has; its strings stay in the table.
    pub fn take_back_scope(&mut self) {
        let scopes = &mut self.scopes;
        let kept = scopes.name.len() - 1;
        scopes.attributes.truncate_owners(kept);
        scopes.name.truncate(kept);
        scopes.version.truncate(kept);
        scopes.dropped_attributes.truncate(kept);
        scopes.schema_url.truncate(kept);
    }

    /// Finishes the event whose attributes were pushed to `events.attributes`.
    pub fn finish_event(&mut self, time_unix_nanos: i64, name: StringCode, dropped_attributes: u32) {
        self.events.attributes.finish_owner();
        self.events.time_unix_nanos.push(time_unix_nanos);
        self.events.name.push(name);
        self.events.dropped_attributes.push(dropped_attributes);
    }

    /// Finishes the link whose attributes were pushed to `links.attributes`.
    pub fn finish_link(
        &mut self,
        trace_id: TraceId,
        span_id: SpanId,
        trace_state: StringCode,
        flags: u32,
        dropped_attributes: u32,
    ) {
        self.links.attributes.finish_owner();
        self.links.trace_id.push(trace_id);
        self.links.span_id.push(span_id);
        self.links.trace_state.push(trace_state);
        self.links.flags.push(flags);
        self.links.dropped_attributes.push(dropped_attributes);
    }

    /// Events that the span being built has so far.
    pub fn open_events(&self) -> usize {
        self.events.name.len() - self.events.offsets[self.events.offsets.len() - 1] as usize
    }

    /// Links that the span being built has so far.
    pub fn open_links(&self) -> usize {
        self.links.span_id.len() - self.links.offsets[self.links.offsets.len() - 1] as usize
    }

    /// Finishes the span whose attributes, events and links were pushed before.
    #[inline]
    pub fn finish_span(&mut self, span: SpanFields) {
        self.trace_id.push(span.trace_id);
        self.span_id.push(span.span_id);
        self.parent_span_id.push(span.parent_span_id);
        self.start_unix_nanos.push(span.start_unix_nanos);
        self.duration_nanos.push(span.duration_nanos);
        self.name.push(span.name);
        self.kind.push(span.kind);
        self.status_code.push(span.status_code);
        self.status_message.push(span.status_message);
        self.trace_state.push(span.trace_state);
        self.flags.push(span.flags);
        self.sampling_threshold.push(span.sampling_threshold.map_or(Threshold::UNKNOWN_BITS, Threshold::bits));
        self.marks.push(span.marks.0);
        self.dropped_attributes.push(span.dropped_attributes);
        self.dropped_events.push(span.dropped_events);
        self.dropped_links.push(span.dropped_links);
        self.resource.push(span.resource);
        self.scope.push(span.scope);
        self.attributes.finish_owner();
        self.events.offsets.push(self.events.name.len() as u32);
        self.links.offsets.push(self.links.span_id.len() as u32);
    }

    /// Drops what the span being built has so far.
    pub fn discard_span(&mut self) {
        self.attributes.discard_open();
        let events = self.events.offsets[self.events.offsets.len() - 1] as usize;
        self.events.attributes.truncate_owners(events);
        self.events.time_unix_nanos.truncate(events);
        self.events.name.truncate(events);
        self.events.dropped_attributes.truncate(events);
        let links = self.links.offsets[self.links.offsets.len() - 1] as usize;
        self.links.attributes.truncate_owners(links);
        self.links.trace_id.truncate(links);
        self.links.span_id.truncate(links);
        self.links.trace_state.truncate(links);
        self.links.flags.truncate(links);
        self.links.dropped_attributes.truncate(links);
    }

    #[inline]
    pub fn event_range(&self, row: usize) -> std::ops::Range<usize> {
        self.events.offsets[row] as usize..self.events.offsets[row + 1] as usize
    }

    #[inline]
    pub fn link_range(&self, row: usize) -> std::ops::Range<usize> {
        self.links.offsets[row] as usize..self.links.offsets[row + 1] as usize
    }

    /// The code of the name of the service that made a span; 0 if its resource has none.
    #[inline]
    pub fn service_name(&self, row: usize) -> StringCode {
        self.resources.service_name[self.resource[row] as usize]
    }

    /// Appends all spans of another batch.
    pub fn append(&mut self, other: &SpanBatch) {
        self.append_rows(other, 0..other.len());
    }

    /// Appends some spans of another batch, with the strings, resources and scopes that they use.
    pub fn append_rows(&mut self, other: &SpanBatch, rows: impl IntoIterator<Item = usize>) {
        let mut remap = Remap::new(&other.strings, std::mem::take(&mut self.strings));
        let mut resources = vec![u32::MAX; other.resources.attributes.owners()];
        let mut scopes = vec![u32::MAX; other.scopes.attributes.owners()];
        for row in rows {
            let resource = other.resource[row] as usize;
            if resources[resource] == u32::MAX {
                resources[resource] = self.copy_resource(other, resource, &mut remap);
            }
            let scope = other.scope[row] as usize;
            if scopes[scope] == u32::MAX {
                scopes[scope] = self.copy_scope(other, scope, &mut remap);
            }
            self.copy_span(other, row, &mut remap, resources[resource], scopes[scope]);
        }
        self.strings = remap.into_table();
    }

    fn copy_resource(&mut self, other: &SpanBatch, index: usize, remap: &mut Remap<'_>) -> u32 {
        let from = &other.resources;
        self.resources.attributes.push_owner_from(&from.attributes, index, remap);
        self.resources.service_name.push(remap.code(from.service_name[index]));
        self.resources.dropped_attributes.push(from.dropped_attributes[index]);
        self.resources.schema_url.push(remap.code(from.schema_url[index]));
        self.resources.service_name.len() as u32 - 1
    }

    fn copy_scope(&mut self, other: &SpanBatch, index: usize, remap: &mut Remap<'_>) -> u32 {
        let from = &other.scopes;
        self.scopes.attributes.push_owner_from(&from.attributes, index, remap);
        self.scopes.name.push(remap.code(from.name[index]));
        self.scopes.version.push(remap.code(from.version[index]));
        self.scopes.dropped_attributes.push(from.dropped_attributes[index]);
        self.scopes.schema_url.push(remap.code(from.schema_url[index]));
        self.scopes.name.len() as u32 - 1
    }

    fn copy_span(&mut self, other: &SpanBatch, row: usize, remap: &mut Remap<'_>, resource: u32, scope: u32) {
        self.trace_id.push(other.trace_id[row]);
        self.span_id.push(other.span_id[row]);
        self.parent_span_id.push(other.parent_span_id[row]);
        self.start_unix_nanos.push(other.start_unix_nanos[row]);
        self.duration_nanos.push(other.duration_nanos[row]);
        self.name.push(remap.code(other.name[row]));
        self.kind.push(other.kind[row]);
        self.status_code.push(other.status_code[row]);
        self.status_message.push(remap.code(other.status_message[row]));
        self.trace_state.push(remap.code(other.trace_state[row]));
        self.flags.push(other.flags[row]);
        self.sampling_threshold.push(other.sampling_threshold[row]);
        self.marks.push(other.marks[row]);
        self.dropped_attributes.push(other.dropped_attributes[row]);
        self.dropped_events.push(other.dropped_events[row]);
        self.dropped_links.push(other.dropped_links[row]);
        self.resource.push(resource);
        self.scope.push(scope);
        self.attributes.push_owner_from(&other.attributes, row, remap);
        for event in other.event_range(row) {
            self.events.attributes.push_owner_from(&other.events.attributes, event, remap);
            self.events.time_unix_nanos.push(other.events.time_unix_nanos[event]);
            self.events.name.push(remap.code(other.events.name[event]));
            self.events.dropped_attributes.push(other.events.dropped_attributes[event]);
        }
        self.events.offsets.push(self.events.name.len() as u32);
        for link in other.link_range(row) {
            self.links.attributes.push_owner_from(&other.links.attributes, link, remap);
            self.links.trace_id.push(other.links.trace_id[link]);
            self.links.span_id.push(other.links.span_id[link]);
            self.links.trace_state.push(remap.code(other.links.trace_state[link]));
            self.links.flags.push(other.links.flags[link]);
            self.links.dropped_attributes.push(other.links.dropped_attributes[link]);
        }
        self.links.offsets.push(self.links.span_id.len() as u32);
    }

    /// Gives back what only building needs. Call when a batch will be kept.
    pub fn seal(&mut self) {
        self.strings.seal();
        self.trace_id.shrink_to_fit();
        self.span_id.shrink_to_fit();
        self.parent_span_id.shrink_to_fit();
        self.start_unix_nanos.shrink_to_fit();
        self.duration_nanos.shrink_to_fit();
        self.name.shrink_to_fit();
        self.kind.shrink_to_fit();
        self.status_code.shrink_to_fit();
        self.status_message.shrink_to_fit();
        self.trace_state.shrink_to_fit();
        self.flags.shrink_to_fit();
        self.sampling_threshold.shrink_to_fit();
        self.marks.shrink_to_fit();
        self.dropped_attributes.shrink_to_fit();
        self.dropped_events.shrink_to_fit();
        self.dropped_links.shrink_to_fit();
        self.resource.shrink_to_fit();
        self.scope.shrink_to_fit();
        self.attributes.shrink_to_fit();
        self.events.attributes.shrink_to_fit();
        self.links.attributes.shrink_to_fit();
    }

    /// About how much memory what the batch holds takes, in bytes, without spare capacity. Cheap enough to be asked while a
    /// batch is built.
    pub fn used_bytes(&self) -> usize {
        let entries = self.attributes.entries()
            + self.events.attributes.entries()
            + self.links.attributes.entries()
            + self.resources.attributes.entries()
            + self.scopes.attributes.entries();
        self.strings.bytes_len()
            + self.strings.len() * StringTable::BYTES_PER_STRING
            + self.len() * FIXED_BYTES_PER_SPAN
            + entries * AttributeLists::BYTES_PER_ENTRY
            + self.events.name.len() * BYTES_PER_EVENT
            + self.links.span_id.len() * BYTES_PER_LINK
            + self.resources.service_name.len() * BYTES_PER_RESOURCE
            + self.scopes.name.len() * BYTES_PER_SCOPE
    }

    /// About how much memory the batch takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.strings.memory_bytes()
            + self.trace_id.capacity() * FIXED_BYTES_PER_SPAN
            + self.attributes.memory_bytes()
            + self.events.name.capacity() * BYTES_PER_EVENT
            + self.events.attributes.memory_bytes()
            + self.links.span_id.capacity() * BYTES_PER_LINK
            + self.links.attributes.memory_bytes()
            + self.resources.attributes.memory_bytes()
            + self.scopes.attributes.memory_bytes()
            + 1024
    }
}
