//! OTLP in JSON, read field by field into the batch as protobuf is: no tree of the request is built, so that a small
//! request can't become a large one in memory.
//!
//! Only the spans of a resource or scope are passed over first, as the resource or the schema URL may follow them.

mod read;
mod value;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess};
use serde_json::value::RawValue;
use tracehouse_model::{Limits, StringCode};

use crate::builder::{BatchBuilder, Owner, RawSpan};
use crate::decoded::{DecodeError, Decoded};
use crate::protobuf::REQUEST_BYTES_CEILING;
use read::{Elements, Id, Integer, List, Message, Object, SpanKind, StatusCode, Text, ignore};
use value::Attributes;

/// Decodes an `ExportTraceServiceRequest` (or `TracesData`, which has the same fields) in JSON.
pub fn decode_export_request(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    if bytes.len() > REQUEST_BYTES_CEILING {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let mut request = Request(BatchBuilder::new(limits));
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let read = Object(&mut request).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    request.0.within_limits()?;
    read.map_err(|error| DecodeError::Json(error.to_string()))?;
    Ok(request.0.finish())
}

struct Request<'l>(BatchBuilder<'l>);

impl<'de> Message<'de> for Request<'_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "resourceSpans" | "resource_spans" => map.next_value_seed(List(&mut ResourceSpansList(&mut self.0))),
            _ => ignore(map),
        }
    }
}

/// Ends reading when the request is found to hold too much; which, the caller asks the builder.
fn go_on<E: Error>(builder: &BatchBuilder<'_>) -> Result<(), E> {
    builder.within_limits().map_err(E::custom)
}

/// Reads a list that was passed over before.
fn read_later<'de, E: Error>(raw: Option<&'de RawValue>, elements: &mut impl Elements<'de>) -> Result<(), E> {
    let Some(raw) = raw else { return Ok(()) };
    List(elements).deserialize(&mut serde_json::Deserializer::from_str(raw.get())).map_err(E::custom)
}

struct ResourceSpansList<'b, 'l>(&'b mut BatchBuilder<'l>);

impl<'de> Elements<'de> for ResourceSpansList<'_, '_> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        let resource = Resource { builder: self.0, dropped_attributes: 0 };
        let mut read = ResourceSpans { resource, schema_url: Text::default(), scope_spans: None };
        Object(&mut read).deserialize(deserializer)?;
        let ResourceSpans { resource: Resource { builder, dropped_attributes }, schema_url, scope_spans } = read;
        builder.finish_resource(dropped_attributes, schema_url.0.as_bytes());
        read_later(scope_spans, &mut ScopeSpansList(&mut *builder))?;
        builder.end_resource();
        go_on(builder)
    }
}

struct ResourceSpans<'b, 'l, 'de> {
    resource: Resource<'b, 'l>,
    schema_url: Text<'de>,
    scope_spans: Option<&'de RawValue>,
}

impl<'de> Message<'de> for ResourceSpans<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "resource" => map.next_value_seed(Object(&mut self.resource))?,
            "scopeSpans" | "scope_spans" => self.scope_spans = Some(map.next_value()?),
            "schemaUrl" | "schema_url" => self.schema_url = map.next_value()?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Resource<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    dropped_attributes: u32,
}

impl<'de> Message<'de> for Resource<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "attributes" => read_attributes(self.builder, Owner::Resource, map)?,
            "droppedAttributesCount" | "dropped_attributes_count" => self.dropped_attributes = integer(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

fn read_attributes<'de, A: MapAccess<'de>>(
    builder: &mut BatchBuilder<'_>,
    owner: Owner,
    map: &mut A,
) -> Result<(), A::Error> {
    map.next_value_seed(List(&mut Attributes { builder, owner }))
}

fn integer<'de, T, A: MapAccess<'de>>(map: &mut A) -> Result<T, A::Error>
where
    Integer<T>: Deserialize<'de>,
{
    map.next_value::<Integer<T>>().map(|integer| integer.0)
}

fn name<'de, A: MapAccess<'de>>(builder: &mut BatchBuilder<'_>, map: &mut A) -> Result<StringCode, A::Error> {
    map.next_value::<Text<'de>>().map(|text| builder.name(text.0.as_bytes()))
}

struct ScopeSpansList<'b, 'l>(&'b mut BatchBuilder<'l>);

impl<'de> Elements<'de> for ScopeSpansList<'_, '_> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        let scope = Scope { builder: self.0, name: Text::default(), version: Text::default(), dropped_attributes: 0 };
        let mut read = ScopeSpans { scope, schema_url: Text::default(), spans: None };
        Object(&mut read).deserialize(deserializer)?;
        let ScopeSpans { scope, schema_url, spans } = read;
        let Scope { builder, name, version, dropped_attributes } = scope;
        builder.finish_scope(name.0.as_bytes(), version.0.as_bytes(), dropped_attributes);
        read_later(spans, &mut Spans(&mut *builder))?;
        builder.end_scope(schema_url.0.as_bytes());
        go_on(builder)
    }
}

struct ScopeSpans<'b, 'l, 'de> {
    scope: Scope<'b, 'l, 'de>,
    schema_url: Text<'de>,
    spans: Option<&'de RawValue>,
}

impl<'de> Message<'de> for ScopeSpans<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "scope" => map.next_value_seed(Object(&mut self.scope))?,
            "spans" => self.spans = Some(map.next_value()?),
            "schemaUrl" | "schema_url" => self.schema_url = map.next_value()?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Scope<'b, 'l, 'de> {
    builder: &'b mut BatchBuilder<'l>,
    name: Text<'de>,
    version: Text<'de>,
    dropped_attributes: u32,
}

impl<'de> Message<'de> for Scope<'_, '_, 'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
        match name {
            "name" => self.name = map.next_value()?,
            "version" => self.version = map.next_value()?,
            "attributes" => read_attributes(self.builder, Owner::Scope, map)?,
            "droppedAttributesCount" | "dropped_attributes_count" => self.dropped_attributes = integer(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Spans<'b, 'l>(&'b mut BatchBuilder<'l>);

impl<'de> Elements<'de> for Spans<'_, '_> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        let [trace_id, span_id, parent_span_id] = [Id::default(); 3];
        let mut read = Span { builder: self.0, trace_id, span_id, parent_span_id, fields: RawSpan::default() };
        Object(&mut read).deserialize(deserializer)?;
        let Span { builder, trace_id, span_id, parent_span_id, fields } = read;
        builder.finish_span(&RawSpan {
            trace_id: trace_id.bytes(),
            span_id: span_id.bytes(),
            parent_span_id: parent_span_id.bytes(),
            ..fields
        });
        go_on(builder)
    }
}

struct Span<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    trace_id: Id,
    span_id: Id,
    parent_span_id: Id,
    /// All other fields.
    fields: RawSpan<'static>,
}

impl<'de> Message<'de> for Span<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, field: &str, map: &mut A) -> Result<(), A::Error> {
        let (builder, fields) = (&mut *self.builder, &mut self.fields);
        match field {
            "traceId" | "trace_id" => self.trace_id = map.next_value()?,
            "spanId" | "span_id" => self.span_id = map.next_value()?,
            "parentSpanId" | "parent_span_id" => self.parent_span_id = map.next_value()?,
            "traceState" | "trace_state" => fields.trace_state = name(builder, map)?,
            "name" => fields.name = name(builder, map)?,
            "kind" => fields.kind = map.next_value::<SpanKind>()?.0,
            "startTimeUnixNano" | "start_time_unix_nano" => fields.start_unix_nanos = integer(map)?,
            "endTimeUnixNano" | "end_time_unix_nano" => fields.end_unix_nanos = integer(map)?,
            "attributes" => read_attributes(builder, Owner::Span, map)?,
            "droppedAttributesCount" | "dropped_attributes_count" => fields.dropped_attributes = integer(map)?,
            "events" => map.next_value_seed(List(&mut Events(builder)))?,
            "droppedEventsCount" | "dropped_events_count" => fields.dropped_events = integer(map)?,
            "links" => map.next_value_seed(List(&mut Links(builder)))?,
            "droppedLinksCount" | "dropped_links_count" => fields.dropped_links = integer(map)?,
            "status" => map.next_value_seed(Object(&mut Status { builder, fields }))?,
            "flags" => fields.flags = integer(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Status<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    fields: &'b mut RawSpan<'static>,
}

impl<'de> Message<'de> for Status<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, field: &str, map: &mut A) -> Result<(), A::Error> {
        match field {
            "message" => self.fields.status_message = name(self.builder, map)?,
            "code" => self.fields.status_code = map.next_value::<StatusCode>()?.0,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Events<'b, 'l>(&'b mut BatchBuilder<'l>);

impl<'de> Elements<'de> for Events<'_, '_> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        if !self.0.admit_event() {
            go_on(self.0)?;
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        let mut read = Event { builder: self.0, time_unix_nanos: 0, name: 0, dropped_attributes: 0 };
        Object(&mut read).deserialize(deserializer)?;
        let Event { builder, time_unix_nanos, name, dropped_attributes } = read;
        builder.finish_event(time_unix_nanos, name, dropped_attributes);
        Ok(())
    }
}

struct Event<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    time_unix_nanos: u64,
    name: StringCode,
    dropped_attributes: u32,
}

impl<'de> Message<'de> for Event<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, field: &str, map: &mut A) -> Result<(), A::Error> {
        match field {
            "timeUnixNano" | "time_unix_nano" => self.time_unix_nanos = integer(map)?,
            "name" => self.name = name(self.builder, map)?,
            "attributes" => read_attributes(self.builder, Owner::Event, map)?,
            "droppedAttributesCount" | "dropped_attributes_count" => self.dropped_attributes = integer(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}

struct Links<'b, 'l>(&'b mut BatchBuilder<'l>);

impl<'de> Elements<'de> for Links<'_, '_> {
    fn element<D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        if !self.0.admit_link() {
            go_on(self.0)?;
            return IgnoredAny::deserialize(deserializer).map(drop);
        }
        let [trace_id, span_id] = [Id::default(); 2];
        let mut read = Link { builder: self.0, trace_id, span_id, trace_state: 0, flags: 0, dropped_attributes: 0 };
        Object(&mut read).deserialize(deserializer)?;
        let Link { builder, trace_id, span_id, trace_state, flags, dropped_attributes } = read;
        builder.finish_link(trace_id.bytes(), span_id.bytes(), trace_state, flags, dropped_attributes);
        Ok(())
    }
}

struct Link<'b, 'l> {
    builder: &'b mut BatchBuilder<'l>,
    trace_id: Id,
    span_id: Id,
    trace_state: StringCode,
    flags: u32,
    dropped_attributes: u32,
}

impl<'de> Message<'de> for Link<'_, '_> {
    fn field<A: MapAccess<'de>>(&mut self, field: &str, map: &mut A) -> Result<(), A::Error> {
        match field {
            "traceId" | "trace_id" => self.trace_id = map.next_value()?,
            "spanId" | "span_id" => self.span_id = map.next_value()?,
            "traceState" | "trace_state" => self.trace_state = name(self.builder, map)?,
            "attributes" => read_attributes(self.builder, Owner::Link, map)?,
            "droppedAttributesCount" | "dropped_attributes_count" => self.dropped_attributes = integer(map)?,
            "flags" => self.flags = integer(map)?,
            _ => ignore(map)?,
        }
        Ok(())
    }
}
