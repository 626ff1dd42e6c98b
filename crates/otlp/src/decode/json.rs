//! OTLP in JSON, read field by field into the batch as protobuf is: no tree of the request is built, so that a small
//! request can't become a large one in memory.
//!
//! Spans are read after their resource and scope: where these have not come yet, the spans are passed over once to look for
//! them. Of a field that comes twice the last value counts, lists go on and messages are merged, as in protobuf; a resource
//! or scope that comes again after spans is passed over.
//!
//! What is wrong costs no more than it must: a value its attribute, a field its span (that of an event, a link or the status
//! too), a single value of a resource or scope that value alone; the answer says so. Texts are repaired as those of protobuf
//! are. The request is refused if it is no JSON, or if above the spans an object or array is missing where one has to be.

mod decimal;
mod read;
mod reader;
mod value;

use tracehouse_model::{Limits, StringCode};

use crate::decode::REQUEST_BYTES_CEILING;
use crate::decode::builder::{BatchBuilder, Owner, RawSpan};
use crate::decode::decoded::{DecodeError, Decoded};
use read::{Faults, Id, Integer, Message, SpanKind, StatusCode, Text, Wrong, list, object, scalar};
use reader::{Fatal, Reader};
use value::read_attributes;

/// Decodes an `ExportTraceServiceRequest` (or `TracesData`, which has the same fields) in JSON.
pub fn decode_export_request(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    if bytes.len() > REQUEST_BYTES_CEILING {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let mut builder = BatchBuilder::new(limits);
    let mut reader = Reader::new(bytes);
    let read = read_request(&mut reader, &mut builder);
    builder.within_limits()?;
    match read {
        Err(Fatal::Json { at, what }) => Err(DecodeError::Json(format!("{what}, at byte {at}"))),
        _ => Ok(builder.finish()),
    }
}

fn read_request(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>) -> Result<(), Fatal> {
    let start = reader.position();
    shaped(start, "the request", object(reader, &mut Request(builder))?)?;
    reader.end()
}

/// Ends reading where a message or a list above the spans has another shape.
fn shaped(at: usize, field: &'static str, read: Result<(), Wrong>) -> Result<(), Fatal> {
    read.map_err(|wrong| Fatal::Json { at, what: wrong.in_field(field).to_string() })
}

/// Ends reading when the request is found to hold too much; which, the caller asks the builder.
fn go_on(builder: &BatchBuilder<'_>) -> Result<(), Fatal> {
    builder.within_limits().map_err(|_| Fatal::Excess)
}

struct Request<'b, 'l>(&'b mut BatchBuilder<'l>);

impl<'de> Message<'de> for Request<'_, '_> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match name {
            b"resourceSpans" | b"resource_spans" => {
                let start = reader.position();
                let read = list(reader, |reader| read_resource_spans(reader, self.0))?;
                shaped(start, "resourceSpans", read)
            }
            _ => reader.skip(),
        }
    }
}

fn read_resource_spans(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>) -> Result<(), Fatal> {
    let (start, first_span) = (reader.position(), builder.spans_seen());
    let resource = Resource { builder, dropped_attributes: 0, faults: Faults::default() };
    let mut read = ResourceSpans { resource, schema_url: Text::default(), is_found: false, is_finished: false };
    shaped(start, "an element of resourceSpans", object(reader, &mut read)?)?;
    read.finish();
    let ResourceSpans { resource: Resource { builder, faults, .. }, schema_url, .. } = read;
    builder.late_schema_url_of_resource(&schema_url.0);
    builder.end_resource();
    if let Some(fault) = &faults.0 {
        builder.note_wrong_field("resource", first_span, fault);
    }
    go_on(builder)
}

struct ResourceSpans<'b, 'l, 'de> {
    resource: Resource<'b, 'l>,
    schema_url: Text<'de>,
    is_found: bool,
    is_finished: bool,
}

impl<'de> Message<'de> for ResourceSpans<'_, '_, 'de> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match name {
            b"resource" if !self.is_finished => self.read_resource(reader)?,
            b"schemaUrl" | b"schema_url" => {
                self.schema_url = self.resource.faults.take("schemaUrl", scalar(reader)?);
            }
            b"scopeSpans" | b"scope_spans" => {
                let start = reader.position();
                if !self.is_found {
                    self.find_resource(reader)?;
                }
                self.finish();
                let read = list(reader, |reader| read_scope_spans(reader, self.resource.builder))?;
                shaped(start, "scopeSpans", read)?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

impl<'de> ResourceSpans<'_, '_, 'de> {
    fn read_resource(&mut self, reader: &mut Reader<'de>) -> Result<(), Fatal> {
        self.is_found = true;
        let start = reader.position();
        shaped(start, "resource", object(reader, &mut self.resource)?)
    }

    /// Looks for the resource behind the spans, which come next.
    #[cold]
    fn find_resource(&mut self, reader: &mut Reader<'de>) -> Result<(), Fatal> {
        self.is_found = true;
        let start = reader.position();
        reader.skip()?;
        reader.further_members(|reader, name| match name {
            b"resource" => self.read_resource(reader),
            _ => reader.skip(),
        })?;
        reader.go_back(start);
        Ok(())
    }

    /// From now on spans have the resource. One that comes again is passed over.
    fn finish(&mut self) {
        if !self.is_finished {
            self.is_finished = true;
            self.resource.builder.finish_resource(self.resource.dropped_attributes, &[]);
        }
    }
}

struct Resource<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    dropped_attributes: u32,
    faults: Faults,
}

impl<'de> Message<'de> for Resource<'_, '_> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match name {
            b"attributes" => {
                let start = reader.position();
                let read = read_attributes(reader, self.builder, Owner::Resource)?;
                shaped(start, "attributes of the resource", read)?;
            }
            b"droppedAttributesCount" | b"dropped_attributes_count" => {
                self.dropped_attributes = integer(reader, &mut self.faults, "droppedAttributesCount")?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

#[inline]
fn integer<T: TryFrom<i128> + Default>(
    reader: &mut Reader<'_>,
    faults: &mut Faults,
    field: &'static str,
) -> Result<T, Fatal> {
    let read: Result<Integer<T>, Wrong> = scalar(reader)?;
    Ok(faults.take(field, read.map(|integer| integer.0)))
}

#[inline]
fn name(
    reader: &mut Reader<'_>,
    builder: &mut BatchBuilder<'_>,
    faults: &mut Faults,
    field: &'static str,
) -> Result<StringCode, Fatal> {
    let text: Text<'_> = faults.take(field, scalar(reader)?);
    Ok(builder.name(&text.0))
}

fn read_scope_spans(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>) -> Result<(), Fatal> {
    let (start, first_span) = (reader.position(), builder.spans_seen());
    let [name, version] = [Text::default(), Text::default()];
    let scope = Scope { builder, name, version, dropped_attributes: 0, faults: Faults::default() };
    let mut read = ScopeSpans { scope, schema_url: Text::default(), is_found: false, is_finished: false };
    shaped(start, "an element of scopeSpans", object(reader, &mut read)?)?;
    read.finish();
    let ScopeSpans { scope: Scope { builder, faults, .. }, schema_url, .. } = read;
    builder.end_scope(&schema_url.0);
    if let Some(fault) = &faults.0 {
        builder.note_wrong_field("scope", first_span, fault);
    }
    go_on(builder)
}

struct ScopeSpans<'b, 'l, 'de> {
    scope: Scope<'b, 'l, 'de>,
    schema_url: Text<'de>,
    is_found: bool,
    is_finished: bool,
}

impl<'de> Message<'de> for ScopeSpans<'_, '_, 'de> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match name {
            b"scope" if !self.is_finished => self.read_scope(reader)?,
            b"schemaUrl" | b"schema_url" => {
                self.schema_url = self.scope.faults.take("schemaUrl", scalar(reader)?);
            }
            b"spans" => {
                let start = reader.position();
                if !self.is_found {
                    self.find_scope(reader)?;
                }
                self.finish();
                let read = list(reader, |reader| read_span(reader, self.scope.builder))?;
                shaped(start, "spans", read)?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

impl<'de> ScopeSpans<'_, '_, 'de> {
    fn read_scope(&mut self, reader: &mut Reader<'de>) -> Result<(), Fatal> {
        self.is_found = true;
        let start = reader.position();
        shaped(start, "scope", object(reader, &mut self.scope)?)
    }

    /// Looks for the scope behind the spans, which come next.
    #[cold]
    fn find_scope(&mut self, reader: &mut Reader<'de>) -> Result<(), Fatal> {
        self.is_found = true;
        let start = reader.position();
        reader.skip()?;
        reader.further_members(|reader, name| match name {
            b"scope" => self.read_scope(reader),
            _ => reader.skip(),
        })?;
        reader.go_back(start);
        Ok(())
    }

    /// From now on spans have the scope. One that comes again is passed over.
    fn finish(&mut self) {
        if !self.is_finished {
            self.is_finished = true;
            let Scope { builder, name, version, dropped_attributes, .. } = &mut self.scope;
            builder.finish_scope(&name.0, &version.0, *dropped_attributes);
        }
    }
}

struct Scope<'b, 'l, 'de> {
    builder: &'b mut BatchBuilder<'l>,
    name: Text<'de>,
    version: Text<'de>,
    dropped_attributes: u32,
    faults: Faults,
}

impl<'de> Message<'de> for Scope<'_, '_, 'de> {
    fn field(&mut self, name: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match name {
            b"name" => self.name = self.faults.take("name", scalar(reader)?),
            b"version" => self.version = self.faults.take("version", scalar(reader)?),
            b"attributes" => {
                let start = reader.position();
                let read = read_attributes(reader, self.builder, Owner::Scope)?;
                shaped(start, "attributes of the scope", read)?;
            }
            b"droppedAttributesCount" | b"dropped_attributes_count" => {
                self.dropped_attributes = integer(reader, &mut self.faults, "droppedAttributesCount")?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

fn read_span(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>) -> Result<(), Fatal> {
    let [trace_id, span_id, parent_span_id] = [Id::default(); 3];
    let (fields, faults) = (RawSpan::default(), Faults::default());
    let mut read = Span { builder, trace_id, span_id, parent_span_id, fields, faults };
    let shape = object(reader, &mut read)?;
    read.faults.take("it", shape);
    let Span { builder, trace_id, span_id, parent_span_id, fields, faults } = read;
    match faults.0 {
        None => builder.finish_span(&RawSpan {
            trace_id: trace_id.bytes(),
            span_id: span_id.bytes(),
            parent_span_id: parent_span_id.bytes(),
            ..fields
        }),
        Some(fault) => builder.refuse_span(&fault),
    }
    go_on(builder)
}

struct Span<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    trace_id: Id,
    span_id: Id,
    parent_span_id: Id,
    /// All other fields.
    fields: RawSpan<'static>,
    faults: Faults,
}

impl<'de> Message<'de> for Span<'_, '_> {
    fn field(&mut self, field: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        let (builder, fields, faults) = (&mut *self.builder, &mut self.fields, &mut self.faults);
        match field {
            b"traceId" | b"trace_id" => self.trace_id = faults.take("traceId", scalar(reader)?),
            b"spanId" | b"span_id" => self.span_id = faults.take("spanId", scalar(reader)?),
            b"parentSpanId" | b"parent_span_id" => {
                self.parent_span_id = faults.take("parentSpanId", scalar(reader)?);
            }
            b"traceState" | b"trace_state" => fields.trace_state = name(reader, builder, faults, "traceState")?,
            b"name" => fields.name = name(reader, builder, faults, "name")?,
            b"kind" => fields.kind = faults.take("kind", scalar::<SpanKind>(reader)?).0,
            b"startTimeUnixNano" | b"start_time_unix_nano" => {
                fields.start_unix_nanos = integer(reader, faults, "startTimeUnixNano")?;
            }
            b"endTimeUnixNano" | b"end_time_unix_nano" => {
                fields.end_unix_nanos = integer(reader, faults, "endTimeUnixNano")?;
            }
            b"attributes" => faults.take("attributes", read_attributes(reader, builder, Owner::Span)?),
            b"droppedAttributesCount" | b"dropped_attributes_count" => {
                fields.dropped_attributes = integer(reader, faults, "droppedAttributesCount")?;
            }
            b"events" => {
                let read = list(reader, |reader| read_event(reader, builder, faults))?;
                faults.take("events", read);
            }
            b"droppedEventsCount" | b"dropped_events_count" => {
                fields.dropped_events = integer(reader, faults, "droppedEventsCount")?;
            }
            b"links" => {
                let read = list(reader, |reader| read_link(reader, builder, faults))?;
                faults.take("links", read);
            }
            b"droppedLinksCount" | b"dropped_links_count" => {
                fields.dropped_links = integer(reader, faults, "droppedLinksCount")?;
            }
            b"status" => {
                let read = object(reader, &mut Status { builder, fields, faults })?;
                faults.take("status", read);
            }
            b"flags" => fields.flags = integer(reader, faults, "flags")?,
            _ => reader.skip()?,
        }
        Ok(())
    }
}

struct Status<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    fields: &'b mut RawSpan<'static>,
    faults: &'b mut Faults,
}

impl<'de> Message<'de> for Status<'_, '_> {
    fn field(&mut self, field: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match field {
            b"message" => self.fields.status_message = name(reader, self.builder, self.faults, "status.message")?,
            b"code" => {
                self.fields.status_code = self.faults.take("status.code", scalar::<StatusCode>(reader)?).0;
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

fn read_event(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>, faults: &mut Faults) -> Result<(), Fatal> {
    if !builder.admit_event() {
        go_on(builder)?;
        return reader.skip();
    }
    let mut read = Event { builder, faults, time_unix_nanos: 0, name: 0, dropped_attributes: 0 };
    let shape = object(reader, &mut read)?;
    read.faults.take("an element of events", shape);
    let Event { builder, time_unix_nanos, name, dropped_attributes, .. } = read;
    builder.finish_event(time_unix_nanos, name, dropped_attributes);
    Ok(())
}

struct Event<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    faults: &'b mut Faults,
    time_unix_nanos: u64,
    name: StringCode,
    dropped_attributes: u32,
}

impl<'de> Message<'de> for Event<'_, '_> {
    fn field(&mut self, field: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match field {
            b"timeUnixNano" | b"time_unix_nano" => {
                self.time_unix_nanos = integer(reader, self.faults, "events.timeUnixNano")?;
            }
            b"name" => self.name = name(reader, self.builder, self.faults, "events.name")?,
            b"attributes" => {
                let read = read_attributes(reader, self.builder, Owner::Event)?;
                self.faults.take("events.attributes", read);
            }
            b"droppedAttributesCount" | b"dropped_attributes_count" => {
                self.dropped_attributes = integer(reader, self.faults, "events.droppedAttributesCount")?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    }
}

fn read_link(reader: &mut Reader<'_>, builder: &mut BatchBuilder<'_>, faults: &mut Faults) -> Result<(), Fatal> {
    if !builder.admit_link() {
        go_on(builder)?;
        return reader.skip();
    }
    let [trace_id, span_id] = [Id::default(); 2];
    let mut read = Link { builder, faults, trace_id, span_id, trace_state: 0, flags: 0, dropped_attributes: 0 };
    let shape = object(reader, &mut read)?;
    read.faults.take("an element of links", shape);
    let Link { builder, trace_id, span_id, trace_state, flags, dropped_attributes, .. } = read;
    builder.finish_link(trace_id.bytes(), span_id.bytes(), trace_state, flags, dropped_attributes);
    Ok(())
}

struct Link<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    faults: &'b mut Faults,
    trace_id: Id,
    span_id: Id,
    trace_state: StringCode,
    flags: u32,
    dropped_attributes: u32,
}

impl<'de> Message<'de> for Link<'_, '_> {
    fn field(&mut self, field: &[u8], reader: &mut Reader<'de>) -> Result<(), Fatal> {
        match field {
            b"traceId" | b"trace_id" => self.trace_id = self.faults.take("links.traceId", scalar(reader)?),
            b"spanId" | b"span_id" => self.span_id = self.faults.take("links.spanId", scalar(reader)?),
            b"traceState" | b"trace_state" => {
                self.trace_state = name(reader, self.builder, self.faults, "links.traceState")?;
            }
            b"attributes" => {
                let read = read_attributes(reader, self.builder, Owner::Link)?;
                self.faults.take("links.attributes", read);
            }
            b"droppedAttributesCount" | b"dropped_attributes_count" => {
                self.dropped_attributes = integer(reader, self.faults, "links.droppedAttributesCount")?;
            }
            b"flags" => self.flags = integer(reader, self.faults, "links.flags")?,
            _ => reader.skip()?,
        }
        Ok(())
    }
}
