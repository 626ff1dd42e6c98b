use bytemuck::Pod;

use crate::attributes::{AttributeLists, ValueTag};
use crate::batch::{Events, Links, Resources, Scopes, SpanBatch};
use crate::exact::ExactBatch;
use crate::strings::StringTable;
use crate::{kind, status};

/// Version of the encoding, the first byte of every encoded batch.
const VERSION: u8 = 1;
/// A column follows value by value.
const PLAIN: u8 = 0;
/// All values of the column are the one that follows. Most columns of most batches are constant zeros.
const CONSTANT: u8 = 1;
/// Longer constant columns are written plainly: damage could turn a few bytes into any number of values.
const CONSTANT_MAX: usize = 1 << 22;

/// The bytes are not an encoded batch. They were damaged or written by another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the batch ends early")]
    Truncated,
    #[error("the batch has encoding version {0}, this build reads version {VERSION}")]
    Version(u8),
    #[error("the batch contradicts itself: {0}")]
    Inconsistent(&'static str),
}

impl ExactBatch {
    /// Writes the batch as the log keeps it: columns one after the other, little-endian, constants once. Not
    /// self-describing and without a checksum; the log adds one. Readable only by the same major version.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let spans = self.spans();
        out.push(VERSION);
        let (bytes, ends) = spans.strings.raw();
        put(out, bytes);
        put(out, ends);
        put(out, &spans.trace_id);
        put(out, &spans.span_id);
        put(out, &spans.parent_span_id);
        put(out, &spans.start_unix_nanos);
        put(out, &spans.duration_nanos);
        put(out, &spans.name);
        put(out, &spans.kind);
        put(out, &spans.status_code);
        put(out, &spans.status_message);
        put(out, &spans.trace_state);
        put(out, &spans.flags);
        put(out, &spans.sampling_threshold);
        put(out, &spans.marks);
        put(out, &spans.dropped_attributes);
        put(out, &spans.dropped_events);
        put(out, &spans.dropped_links);
        put(out, &spans.resource);
        put(out, &spans.scope);
        put_attributes(out, &spans.attributes);
        put(out, &spans.events.offsets);
        put(out, &spans.events.time_unix_nanos);
        put(out, &spans.events.name);
        put(out, &spans.events.dropped_attributes);
        put_attributes(out, &spans.events.attributes);
        put(out, &spans.links.offsets);
        put(out, &spans.links.trace_id);
        put(out, &spans.links.span_id);
        put(out, &spans.links.trace_state);
        put(out, &spans.links.flags);
        put(out, &spans.links.dropped_attributes);
        put_attributes(out, &spans.links.attributes);
        put_attributes(out, &spans.resources.attributes);
        put(out, &spans.resources.dropped_attributes);
        put(out, &spans.resources.schema_url);
        put(out, &spans.resources.service_name);
        put(out, &spans.scopes.name);
        put(out, &spans.scopes.version);
        put_attributes(out, &spans.scopes.attributes);
        put(out, &spans.scopes.dropped_attributes);
        put(out, &spans.scopes.schema_url);
    }
}

impl SpanBatch {
    /// Reads what [`ExactBatch::encode`] wrote. Everything that a later index would rely on is checked.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Input(bytes);
        let version = input.byte()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let strings =
            StringTable::from_raw(input.column()?, input.column()?).ok_or(DecodeError::Inconsistent("string table"))?;
        let batch = Self {
            strings,
            trace_id: input.column()?,
            span_id: input.column()?,
            parent_span_id: input.column()?,
            start_unix_nanos: input.column()?,
            duration_nanos: input.column()?,
            name: input.column()?,
            kind: input.column()?,
            status_code: input.column()?,
            status_message: input.column()?,
            trace_state: input.column()?,
            flags: input.column()?,
            sampling_threshold: input.column()?,
            marks: input.column()?,
            dropped_attributes: input.column()?,
            dropped_events: input.column()?,
            dropped_links: input.column()?,
            resource: input.column()?,
            scope: input.column()?,
            attributes: input.attributes()?,
            events: Events {
                offsets: input.column()?,
                time_unix_nanos: input.column()?,
                name: input.column()?,
                dropped_attributes: input.column()?,
                attributes: input.attributes()?,
            },
            links: Links {
                offsets: input.column()?,
                trace_id: input.column()?,
                span_id: input.column()?,
                trace_state: input.column()?,
                flags: input.column()?,
                dropped_attributes: input.column()?,
                attributes: input.attributes()?,
            },
            resources: Resources {
                attributes: input.attributes()?,
                dropped_attributes: input.column()?,
                schema_url: input.column()?,
                service_name: input.column()?,
            },
            scopes: Scopes {
                name: input.column()?,
                version: input.column()?,
                attributes: input.attributes()?,
                dropped_attributes: input.column()?,
                schema_url: input.column()?,
            },
        };
        batch.check()?;
        Ok(batch)
    }

    fn check(&self) -> Result<(), DecodeError> {
        let wrong = |what| Err(DecodeError::Inconsistent(what));
        let spans = self.len();
        let lengths = [
            self.span_id.len(),
            self.parent_span_id.len(),
            self.start_unix_nanos.len(),
            self.duration_nanos.len(),
            self.name.len(),
            self.kind.len(),
            self.status_code.len(),
            self.status_message.len(),
            self.trace_state.len(),
            self.flags.len(),
            self.sampling_threshold.len(),
            self.marks.len(),
            self.dropped_attributes.len(),
            self.dropped_events.len(),
            self.dropped_links.len(),
            self.resource.len(),
            self.scope.len(),
            self.attributes.owners(),
            self.events.offsets.len().wrapping_sub(1),
            self.links.offsets.len().wrapping_sub(1),
        ];
        if lengths.iter().any(|&length| length != spans) {
            return wrong("span columns of different lengths");
        }
        if self.kind.iter().any(|&kind| usize::from(kind) >= kind::NAMES.len())
            || self.status_code.iter().any(|&code| usize::from(code) >= status::NAMES.len())
        {
            return wrong("kinds or statuses");
        }
        let (events, links) = (self.events.name.len(), self.links.span_id.len());
        let owners_fit = [self.events.time_unix_nanos.len(), self.events.dropped_attributes.len()] == [events; 2]
            && self.events.attributes.owners() == events
            && self.links.attributes.owners() == links
            && [self.links.trace_id.len(), self.links.trace_state.len()] == [links; 2]
            && [self.links.flags.len(), self.links.dropped_attributes.len()] == [links; 2]
            && offsets_fit(&self.events.offsets, events)
            && offsets_fit(&self.links.offsets, links);
        if !owners_fit {
            return wrong("events or links");
        }
        let (resources, scopes) = (self.resources.attributes.owners(), self.scopes.attributes.owners());
        let counts = [&self.resources.dropped_attributes, &self.resources.schema_url, &self.resources.service_name];
        let scope_counts =
            [&self.scopes.name, &self.scopes.version, &self.scopes.dropped_attributes, &self.scopes.schema_url];
        if counts.iter().any(|column| column.len() != resources)
            || scope_counts.iter().any(|column| column.len() != scopes)
            || self.resource.iter().any(|&index| index as usize >= resources)
            || self.scope.iter().any(|&index| index as usize >= scopes)
        {
            return wrong("resources or scopes");
        }
        self.check_codes()
    }

    fn check_codes(&self) -> Result<(), DecodeError> {
        let strings = self.strings.len() as u64;
        let codes = [
            &self.name,
            &self.status_message,
            &self.trace_state,
            &self.events.name,
            &self.links.trace_state,
            &self.resources.schema_url,
            &self.resources.service_name,
            &self.scopes.name,
            &self.scopes.version,
            &self.scopes.schema_url,
        ];
        let lists = [
            &self.attributes,
            &self.events.attributes,
            &self.links.attributes,
            &self.resources.attributes,
            &self.scopes.attributes,
        ];
        let fits = codes.iter().all(|column| column.iter().all(|&code| u64::from(code) < strings))
            && lists.iter().all(|list| list.codes_fit(strings));
        if fits { Ok(()) } else { Err(DecodeError::Inconsistent("string codes")) }
    }
}

impl AttributeLists {
    fn codes_fit(&self, strings: u64) -> bool {
        self.keys.iter().all(|&key| u64::from(key) < strings)
            && self.tags.iter().zip(&self.payloads).all(|(&tag, &payload)| {
                ValueTag::from_u8(tag).is_some() && (!Self::holds_code(tag) || payload < strings)
            })
    }
}

fn offsets_fit(offsets: &[u32], entries: usize) -> bool {
    offsets.first() == Some(&0) && offsets.last().map(|&last| last as usize) == Some(entries) && offsets.is_sorted()
}

fn put<T: Pod + PartialEq>(out: &mut Vec<u8>, column: &[T]) {
    out.extend_from_slice(&(column.len() as u32).to_le_bytes());
    let constant = (2..=CONSTANT_MAX).contains(&column.len()) && column.iter().all(|value| *value == column[0]);
    out.push(if constant { CONSTANT } else { PLAIN });
    let values = if constant { &column[..1] } else { column };
    out.extend_from_slice(bytemuck::cast_slice(values));
}

fn put_attributes(out: &mut Vec<u8>, lists: &AttributeLists) {
    put(out, &lists.offsets);
    put(out, &lists.keys);
    put(out, &lists.tags);
    put(out, &lists.payloads);
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        Ok(self.take(1)?[0])
    }

    fn take(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn column<T: Pod>(&mut self) -> Result<Vec<T>, DecodeError> {
        let mut length_bytes = [0; 4];
        length_bytes.copy_from_slice(self.take(4)?);
        let length = u32::from_le_bytes(length_bytes) as usize;
        let width = size_of::<T>();
        match self.byte()? {
            PLAIN => {
                // The input is not aligned for T, so the values are copied as bytes.
                let bytes = self.take(length.saturating_mul(width))?;
                let mut column = vec![T::zeroed(); length];
                bytemuck::cast_slice_mut(&mut column).copy_from_slice(bytes);
                Ok(column)
            }
            CONSTANT if length > CONSTANT_MAX => Err(DecodeError::Inconsistent("column length")),
            CONSTANT => Ok(vec![bytemuck::pod_read_unaligned(self.take(width)?); length]),
            _ => Err(DecodeError::Inconsistent("column form")),
        }
    }

    fn attributes(&mut self) -> Result<AttributeLists, DecodeError> {
        let lists = AttributeLists {
            offsets: self.column()?,
            keys: self.column()?,
            tags: self.column()?,
            payloads: self.column()?,
        };
        let entries = lists.keys.len();
        if lists.tags.len() != entries || lists.payloads.len() != entries || !offsets_fit(&lists.offsets, entries) {
            return Err(DecodeError::Inconsistent("attributes"));
        }
        Ok(lists)
    }
}
