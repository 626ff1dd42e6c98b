//! Encoded requests that can be sent again as new spans.
//!
//! Ids and times have a fixed width on the wire, so a request is encoded once, its ids and times are located, and each
//! sending writes the same bytes with other ids (by XOR, which keeps parents and children matched) and later times.

use bytes::{Buf, BufMut};

/// One `ExportTraceServiceRequest`, encoded, with the places that change from sending to sending.
pub(crate) struct Template {
    bytes: Vec<u8>,
    patches: Vec<Patch>,
    pub(crate) spans: u32,
    /// When its last span ended, in nanoseconds of the data's own time.
    pub(crate) due_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    /// The trace id of a span itself, as opposed to one in a link.
    OwnTraceId,
    LinkedTraceId,
    SpanId,
    Time,
}

#[derive(Clone, Copy)]
struct Patch {
    offset: u32,
    field: Field,
}

/// What distinguishes one sending of a template from another.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stamp {
    id_mask: u128,
    /// Added to every time.
    shift_ns: u64,
}

impl Stamp {
    /// Round 0 of salt 0 leaves ids as they are.
    pub(crate) fn new(salt: u64, round: u64, shift_ns: u64) -> Self {
        if salt == 0 && round == 0 {
            return Self { id_mask: 0, shift_ns };
        }
        let seed = mix(salt).wrapping_add(round.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let id_mask = (u128::from(mix(seed)) << 64) | u128::from(mix(seed ^ 0x5851_f42d_4c95_7f2d));
        Self { id_mask, shift_ns }
    }

    pub(crate) fn trace_id(&self, original: u128) -> u128 {
        original ^ self.id_mask
    }

    fn span_id(&self, original: u64) -> u64 {
        original ^ (self.id_mask >> 32) as u64
    }
}

/// The finaliser of splitmix64.
fn mix(seed: u64) -> u64 {
    let mut value = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

impl Template {
    pub(crate) fn new(bytes: Vec<u8>, due_ns: u64) -> Self {
        let mut patches = Vec::new();
        locate_request(&bytes, &mut patches);
        let spans = patches.iter().filter(|patch| patch.field == Field::OwnTraceId).count() as u32;
        Self { bytes, patches, spans, due_ns }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends the request as this stamp makes it.
    pub(crate) fn write(&self, stamp: &Stamp, out: &mut impl BufMut) {
        let mut written = 0;
        for patch in &self.patches {
            let offset = patch.offset as usize;
            out.put_slice(&self.bytes[written..offset]);
            let mut original = &self.bytes[offset..];
            written = offset
                + match patch.field {
                    Field::OwnTraceId | Field::LinkedTraceId => {
                        out.put_u128(stamp.trace_id(original.get_u128()));
                        16
                    }
                    Field::SpanId => {
                        out.put_u64(stamp.span_id(original.get_u64()));
                        8
                    }
                    Field::Time => {
                        out.put_u64_le(original.get_u64_le().wrapping_add(stamp.shift_ns));
                        8
                    }
                };
        }
        out.put_slice(&self.bytes[written..]);
    }

    /// The trace id of every span in it, in order, before stamping.
    pub(crate) fn trace_ids(&self) -> impl Iterator<Item = u128> {
        self.patches
            .iter()
            .filter(|patch| patch.field == Field::OwnTraceId)
            .map(|patch| (&self.bytes[patch.offset as usize..]).get_u128())
    }
}

/// Walks the fields of a message: calls back with (number, offset of the payload, payload).
fn fields(bytes: &[u8], base: usize, mut visit: impl FnMut(u64, usize, &[u8])) {
    let mut rest = bytes;
    while rest.has_remaining() {
        let key = varint(&mut rest);
        let length = match key & 7 {
            0 => {
                varint(&mut rest);
                continue;
            }
            1 => 8,
            2 => varint(&mut rest) as usize,
            5 => 4,
            other => unreachable!("the encoder writes no wire type {other}"),
        };
        visit(key >> 3, base + bytes.len() - rest.len(), &rest[..length]);
        rest.advance(length);
    }
}

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.get_u8();
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

fn locate_request(request: &[u8], patches: &mut Vec<Patch>) {
    fields(request, 0, |number, offset, resource_spans| {
        if number == 1 {
            fields(resource_spans, offset, |number, offset, scope_spans| {
                if number == 2 {
                    fields(scope_spans, offset, |number, offset, span| {
                        if number == 2 {
                            locate_span(span, offset, patches);
                        }
                    });
                }
            });
        }
    });
}

/// Field numbers are those of `opentelemetry.proto.trace.v1.Span`, `.Event`, and `.Link`.
fn locate_span(span: &[u8], offset: usize, patches: &mut Vec<Patch>) {
    let mut push = |field, offset: usize| patches.push(Patch { offset: offset as u32, field });
    fields(span, offset, |number, offset, payload| match number {
        1 => push(Field::OwnTraceId, offset),
        2 | 4 => push(Field::SpanId, offset),
        7 | 8 => push(Field::Time, offset),
        11 => fields(payload, offset, |number, offset, _| {
            if number == 1 {
                push(Field::Time, offset);
            }
        }),
        13 => fields(payload, offset, |number, offset, _| match number {
            1 => push(Field::LinkedTraceId, offset),
            2 => push(Field::SpanId, offset),
            _ => {}
        }),
        _ => {}
    });
}
