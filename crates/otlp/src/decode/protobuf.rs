//! OTLP in protobuf, read field by field from the bytes into the batch.
//!
//! The message types and field numbers are those of `opentelemetry/proto/trace/v1/trace.proto` 1.x. Fields may come in
//! any order and more than once; of a singular field the last wins (but a scope that comes again after spans is not
//! looked at). A known field with another wire type is passed over like an unknown one.

mod wire;

use tracehouse_model::{AnyValue, Limits, StringCode};

use crate::decode::REQUEST_BYTES_CEILING;
use crate::decode::builder::{BatchBuilder, Owner, RawSpan, RawValue};
use crate::decode::decoded::{DecodeError, Decoded, WireError};
use crate::decode::nested::Room;
use wire::{Wire, delimited, fixed32, fixed64, varint};

/// Decodes an `ExportTraceServiceRequest` (or `TracesData`, which has the same fields).
pub fn decode_export_request(bytes: &[u8], limits: &Limits) -> Result<Decoded, DecodeError> {
    if bytes.len() > REQUEST_BYTES_CEILING {
        return Err(DecodeError::TooLarge(bytes.len()));
    }
    let mut builder = BatchBuilder::new(limits);
    let read = export_request(&mut builder, bytes);
    builder.within_limits()?;
    read?;
    Ok(builder.finish())
}

fn export_request(builder: &mut BatchBuilder<'_>, message: &[u8]) -> Result<(), WireError> {
    const RESOURCE_SPANS: u32 = delimited(1);
    let mut request = Wire(message);
    while let Some(tag) = request.tag()? {
        match tag {
            RESOURCE_SPANS => resource_spans(builder, request.bytes()?)?,
            _ => request.skip(tag)?,
        }
    }
    Ok(())
}

/// The resource is read before the spans, wherever it stands: a first walk over the fields finds it.
fn resource_spans(builder: &mut BatchBuilder<'_>, message: &[u8]) -> Result<(), WireError> {
    const RESOURCE: u32 = delimited(1);
    const SCOPE_SPANS: u32 = delimited(2);
    const SCHEMA_URL: u32 = delimited(3);
    let mut schema_url: &[u8] = &[];
    let mut dropped_attributes = 0;
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            RESOURCE => resource(builder, fields.bytes()?, &mut dropped_attributes)?,
            SCHEMA_URL => schema_url = fields.bytes()?,
            _ => fields.skip(tag)?,
        }
    }
    builder.finish_resource(dropped_attributes, schema_url);
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            SCOPE_SPANS => scope_spans(builder, fields.bytes()?)?,
            _ => fields.skip(tag)?,
        }
    }
    builder.end_resource();
    Ok(builder.within_limits()?)
}

fn resource(builder: &mut BatchBuilder<'_>, message: &[u8], dropped_attributes: &mut u32) -> Result<(), WireError> {
    const ATTRIBUTES: u32 = delimited(1);
    const DROPPED_ATTRIBUTES: u32 = varint(2);
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            ATTRIBUTES => attribute(builder, Owner::Resource, fields.bytes()?)?,
            DROPPED_ATTRIBUTES => *dropped_attributes = fields.varint()? as u32,
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

/// Encoders write the scope, then the spans, then the schema URL, and in this order one walk suffices: a walk ahead
/// over the spans would wait for memory at each of them.
fn scope_spans(builder: &mut BatchBuilder<'_>, message: &[u8]) -> Result<(), WireError> {
    const SCOPE: u32 = delimited(1);
    const SPANS: u32 = delimited(2);
    const SCHEMA_URL: u32 = delimited(3);
    let mut schema_url: &[u8] = &[];
    let mut scope = Scope::default();
    let mut finished = false;
    builder.reserve_spans(message.len());
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            SPANS => {
                let message = fields.bytes()?;
                if !finished {
                    scope.find_in(builder, fields)?;
                    scope.finish(builder);
                    finished = true;
                }
                span(builder, message)?;
            }
            SCOPE if !finished => scope.merge(builder, fields.bytes()?)?,
            SCHEMA_URL => schema_url = fields.bytes()?,
            _ => fields.skip(tag)?,
        }
    }
    if !finished {
        scope.finish(builder);
    }
    builder.end_scope(schema_url);
    Ok(builder.within_limits()?)
}

#[derive(Default)]
struct Scope<'a> {
    found: bool,
    name: &'a [u8],
    version: &'a [u8],
    dropped_attributes: u32,
}

impl<'a> Scope<'a> {
    fn merge(&mut self, builder: &mut BatchBuilder<'_>, message: &'a [u8]) -> Result<(), WireError> {
        const NAME: u32 = delimited(1);
        const VERSION: u32 = delimited(2);
        const ATTRIBUTES: u32 = delimited(3);
        const DROPPED_ATTRIBUTES: u32 = varint(4);
        self.found = true;
        let mut fields = Wire(message);
        while let Some(tag) = fields.tag()? {
            match tag {
                NAME => self.name = fields.bytes()?,
                VERSION => self.version = fields.bytes()?,
                ATTRIBUTES => attribute(builder, Owner::Scope, fields.bytes()?)?,
                DROPPED_ATTRIBUTES => self.dropped_attributes = fields.varint()? as u32,
                _ => fields.skip(tag)?,
            }
        }
        Ok(())
    }

    /// Looks for the scope in the fields that follow the first span, if none came before it.
    fn find_in(&mut self, builder: &mut BatchBuilder<'_>, mut fields: Wire<'a>) -> Result<(), WireError> {
        const SCOPE: u32 = delimited(1);
        if self.found {
            return Ok(());
        }
        while let Some(tag) = fields.tag()? {
            match tag {
                SCOPE => self.merge(builder, fields.bytes()?)?,
                _ => fields.skip(tag)?,
            }
        }
        Ok(())
    }

    fn finish(&self, builder: &mut BatchBuilder<'_>) {
        builder.finish_scope(self.name, self.version, self.dropped_attributes);
    }
}

fn span(builder: &mut BatchBuilder<'_>, message: &[u8]) -> Result<(), WireError> {
    const TRACE_ID: u32 = delimited(1);
    const SPAN_ID: u32 = delimited(2);
    const TRACE_STATE: u32 = delimited(3);
    const PARENT_SPAN_ID: u32 = delimited(4);
    const NAME: u32 = delimited(5);
    const KIND: u32 = varint(6);
    const START: u32 = fixed64(7);
    const END: u32 = fixed64(8);
    const ATTRIBUTES: u32 = delimited(9);
    const DROPPED_ATTRIBUTES: u32 = varint(10);
    const EVENTS: u32 = delimited(11);
    const DROPPED_EVENTS: u32 = varint(12);
    const LINKS: u32 = delimited(13);
    const DROPPED_LINKS: u32 = varint(14);
    const STATUS: u32 = delimited(15);
    const FLAGS: u32 = fixed32(16);
    let mut span = RawSpan::default();
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            ATTRIBUTES => attribute(builder, Owner::Span, fields.bytes()?)?,
            TRACE_ID => span.trace_id = fields.bytes()?,
            SPAN_ID => span.span_id = fields.bytes()?,
            PARENT_SPAN_ID => span.parent_span_id = fields.bytes()?,
            NAME => span.name = builder.name(fields.bytes()?),
            KIND => span.kind = fields.varint()? as i32,
            START => span.start_unix_nanos = fields.fixed64()?,
            END => span.end_unix_nanos = fields.fixed64()?,
            STATUS => status(builder, fields.bytes()?, &mut span)?,
            FLAGS => span.flags = fields.fixed32()?,
            EVENTS => event(builder, fields.bytes()?)?,
            LINKS => link(builder, fields.bytes()?)?,
            TRACE_STATE => span.trace_state = builder.name(fields.bytes()?),
            DROPPED_ATTRIBUTES => span.dropped_attributes = fields.varint()? as u32,
            DROPPED_EVENTS => span.dropped_events = fields.varint()? as u32,
            DROPPED_LINKS => span.dropped_links = fields.varint()? as u32,
            _ => fields.skip(tag)?,
        }
    }
    builder.finish_span(&span);
    Ok(builder.within_limits()?)
}

fn status(builder: &mut BatchBuilder<'_>, message: &[u8], span: &mut RawSpan<'_>) -> Result<(), WireError> {
    const MESSAGE: u32 = delimited(2);
    const CODE: u32 = varint(3);
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            MESSAGE => span.status_message = builder.name(fields.bytes()?),
            CODE => span.status_code = fields.varint()? as i32,
            _ => fields.skip(tag)?,
        }
    }
    Ok(())
}

fn event(builder: &mut BatchBuilder<'_>, message: &[u8]) -> Result<(), WireError> {
    const TIME: u32 = fixed64(1);
    const NAME: u32 = delimited(2);
    const ATTRIBUTES: u32 = delimited(3);
    const DROPPED_ATTRIBUTES: u32 = varint(4);
    if !builder.admit_event() {
        return Ok(builder.within_limits()?);
    }
    let (mut time_unix_nanos, mut name, mut dropped_attributes) = (0, 0, 0);
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            TIME => time_unix_nanos = fields.fixed64()?,
            NAME => name = builder.name(fields.bytes()?),
            ATTRIBUTES => attribute(builder, Owner::Event, fields.bytes()?)?,
            DROPPED_ATTRIBUTES => dropped_attributes = fields.varint()? as u32,
            _ => fields.skip(tag)?,
        }
    }
    builder.finish_event(time_unix_nanos, name, dropped_attributes);
    Ok(())
}

fn link(builder: &mut BatchBuilder<'_>, message: &[u8]) -> Result<(), WireError> {
    const TRACE_ID: u32 = delimited(1);
    const SPAN_ID: u32 = delimited(2);
    const TRACE_STATE: u32 = delimited(3);
    const ATTRIBUTES: u32 = delimited(4);
    const DROPPED_ATTRIBUTES: u32 = varint(5);
    const FLAGS: u32 = fixed32(6);
    if !builder.admit_link() {
        return Ok(builder.within_limits()?);
    }
    let (mut trace_id, mut span_id): (&[u8], &[u8]) = (&[], &[]);
    let mut trace_state: StringCode = 0;
    let (mut flags, mut dropped_attributes) = (0, 0);
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            TRACE_ID => trace_id = fields.bytes()?,
            SPAN_ID => span_id = fields.bytes()?,
            TRACE_STATE => trace_state = builder.name(fields.bytes()?),
            ATTRIBUTES => attribute(builder, Owner::Link, fields.bytes()?)?,
            DROPPED_ATTRIBUTES => dropped_attributes = fields.varint()? as u32,
            FLAGS => flags = fields.fixed32()?,
            _ => fields.skip(tag)?,
        }
    }
    builder.finish_link(trace_id, span_id, trace_state, flags, dropped_attributes);
    Ok(())
}

#[inline]
fn attribute(builder: &mut BatchBuilder<'_>, owner: Owner, message: &[u8]) -> Result<(), WireError> {
    if !builder.admit_attribute(owner) {
        return Ok(builder.within_limits()?);
    }
    let (key, value) = key_value(message)?;
    match any_value(value)? {
        Chosen::Scalar(value) => builder.attribute(owner, key, value),
        nested => nested_attribute(builder, owner, key, nested)?,
    }
    Ok(())
}

#[cold]
fn nested_attribute(
    builder: &mut BatchBuilder<'_>,
    owner: Owner,
    key: &[u8],
    value: Chosen<'_>,
) -> Result<(), WireError> {
    let limits = builder.limits();
    let mut room = Room::new(limits.attribute_value_bytes_max);
    let value = nested_value(value, limits.value_depth_max, &mut room)?;
    builder.nested_attribute(owner, key, value, &room);
    Ok(())
}

/// The parts of a `KeyValue`: the key and the bytes of the `AnyValue`.
#[inline(always)]
fn key_value(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    // Nearly all look like this: a short key, a short value, nothing else.
    if let [KEY_TAG, key_length @ ..0x80, rest @ ..] = message
        && let Some((key, [VALUE_TAG, value_length @ ..0x80, value @ ..])) = rest.split_at_checked((*key_length).into())
        && value.len() == usize::from(*value_length)
    {
        return Ok((key, value));
    }
    any_key_value(message)
}

const KEY_TAG: u8 = delimited(1) as u8;
const VALUE_TAG: u8 = delimited(2) as u8;

#[inline(never)]
fn any_key_value(message: &[u8]) -> Result<(&[u8], &[u8]), WireError> {
    const KEY: u32 = delimited(1);
    const VALUE: u32 = delimited(2);
    let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        match tag {
            KEY => key = fields.bytes()?,
            VALUE => value = fields.bytes()?,
            _ => fields.skip(tag)?,
        }
    }
    Ok((key, value))
}

/// The one of `AnyValue`'s fields that counts, which is the last.
enum Chosen<'a> {
    Scalar(RawValue<'a>),
    Array(&'a [u8]),
    KeyValueList(&'a [u8]),
}

#[inline(always)]
fn any_value(message: &[u8]) -> Result<Chosen<'_>, WireError> {
    const STRING_TAG: u8 = delimited(1) as u8;
    // Most values are one short string.
    if let [STRING_TAG, length @ ..0x80, text @ ..] = message
        && text.len() == usize::from(*length)
    {
        return Ok(Chosen::Scalar(RawValue::String(text)));
    }
    any_kind_of_value(message)
}

#[inline(never)]
fn any_kind_of_value(message: &[u8]) -> Result<Chosen<'_>, WireError> {
    const STRING: u32 = delimited(1);
    const BOOL: u32 = varint(2);
    const INT: u32 = varint(3);
    const DOUBLE: u32 = fixed64(4);
    const ARRAY: u32 = delimited(5);
    const KEY_VALUE_LIST: u32 = delimited(6);
    const BYTES: u32 = delimited(7);
    let mut chosen = Chosen::Scalar(RawValue::Empty);
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        chosen = match tag {
            STRING => Chosen::Scalar(RawValue::String(fields.bytes()?)),
            INT => Chosen::Scalar(RawValue::Int(fields.varint()? as i64)),
            BOOL => Chosen::Scalar(RawValue::Bool(fields.varint()? != 0)),
            DOUBLE => Chosen::Scalar(RawValue::Double(f64::from_bits(fields.fixed64()?))),
            BYTES => Chosen::Scalar(RawValue::Bytes(fields.bytes()?)),
            ARRAY => Chosen::Array(fields.bytes()?),
            KEY_VALUE_LIST => Chosen::KeyValueList(fields.bytes()?),
            _ => {
                fields.skip(tag)?;
                continue;
            }
        };
    }
    Ok(chosen)
}

/// The value with its content, as far as there is room; `None` if it is nested deeper than `depth_left`.
fn nested_value(chosen: Chosen<'_>, depth_left: usize, room: &mut Room) -> Result<Option<AnyValue>, WireError> {
    const VALUES: u32 = delimited(1);
    let (message, is_array) = match chosen {
        Chosen::Scalar(value) => return Ok(Some(value.to_owned(room))),
        Chosen::Array(message) => (message, true),
        Chosen::KeyValueList(message) => (message, false),
    };
    let Some(depth_left) = depth_left.checked_sub(1) else { return Ok(None) };
    let (mut values, mut entries) = (Vec::new(), Vec::new());
    let mut fields = Wire(message);
    while let Some(tag) = fields.tag()? {
        if tag != VALUES {
            fields.skip(tag)?;
            continue;
        }
        let element = fields.bytes()?;
        let (key, value) = if is_array { (&[][..], element) } else { key_value(element)? };
        let chosen = any_value(value)?;
        let content_bytes = match &chosen {
            Chosen::Scalar(RawValue::String(bytes) | RawValue::Bytes(bytes)) => bytes.len(),
            _ => 0,
        };
        if !room.take(key.len() + content_bytes) {
            break;
        }
        let Some(value) = nested_value(chosen, depth_left, room)? else { return Ok(None) };
        if is_array {
            values.push(value);
        } else {
            entries.push((room.text(key), value));
        }
    }
    Ok(Some(if is_array { AnyValue::Array(values) } else { AnyValue::KeyValueList(entries) }))
}
