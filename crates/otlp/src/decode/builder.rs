//! What both decoders share: everything between a field's raw value and the batch. Limits, repairs and refusals are
//! decided here and only here, so that protobuf and JSON cannot differ.

use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, Limits, Marks, SpanBatch, SpanFields, SpanId, StringCode, Threshold,
    TraceId,
};

use crate::decode::decoded::{self, Decoded, Excess, Fault, RejectReason, Rejections};
use crate::decode::nested::{self, Room};

/// Whose attributes are being pushed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    Resource,
    Scope,
    Span,
    Event,
    Link,
}

/// The value of an attribute as a decoder read it, unless it is an array or a key-value list.
#[derive(Clone, Copy)]
pub(crate) enum RawValue<'a> {
    Empty,
    /// Should be UTF-8; not checked yet.
    String(&'a [u8]),
    Int(i64),
    Double(f64),
    Bool(bool),
    Bytes(&'a [u8]),
}

impl RawValue<'_> {
    /// The value as an element of a nested one.
    pub(crate) fn to_owned(self, room: &mut Room) -> AnyValue {
        match self {
            RawValue::Empty => AnyValue::Empty,
            RawValue::String(bytes) => AnyValue::String(room.text(bytes)),
            RawValue::Int(value) => AnyValue::Int(value),
            RawValue::Double(value) => AnyValue::Double(value),
            RawValue::Bool(value) => AnyValue::Bool(value),
            RawValue::Bytes(bytes) => AnyValue::Bytes(bytes.to_vec()),
        }
    }
}

/// The fixed fields of a span as a decoder read them; absent fields have their default.
#[derive(Clone, Copy, Default)]
pub(crate) struct RawSpan<'a> {
    pub(crate) trace_id: &'a [u8],
    pub(crate) span_id: &'a [u8],
    pub(crate) parent_span_id: &'a [u8],
    pub(crate) name: StringCode,
    pub(crate) kind: i32,
    pub(crate) start_unix_nanos: u64,
    pub(crate) end_unix_nanos: u64,
    pub(crate) status_code: i32,
    pub(crate) status_message: StringCode,
    pub(crate) trace_state: StringCode,
    pub(crate) flags: u32,
    pub(crate) dropped_attributes: u32,
    pub(crate) dropped_events: u32,
    pub(crate) dropped_links: u32,
}

pub(crate) struct BatchBuilder<'l> {
    batch: SpanBatch,
    limits: &'l Limits,
    /// Set once a string that is not UTF-8 is in the table (as the bytes of a binary value): from then on a string
    /// found in the table may be invalid as well.
    binary_interned: bool,
    /// What was noticed since the last resource, scope or span was finished.
    marks: Marks,
    resource: OpenOwner,
    scope: OpenOwner,
    /// Attributes, events and links of the span (or resource, …) being built that were left out.
    left_out: LeftOut,
    spans_seen: u64,
    /// Parts of the request of which nothing was kept.
    parts_left_out: u32,
    excess: Option<Excess>,
    /// As in the limits; 0 once there is an excess, so that what is checked for each attribute anyway ends the reading.
    attributes_max: usize,
    rejected: Rejections,
    /// Attributes with wrong values, of what is being built.
    wrong_attributes: decoded::LeftOut,
    values_cut: u64,
    last_key: StringCode,
    recent: [Recent; RECENT_SLOTS],
}

/// Parts of a request of which nothing is kept (resources and scopes without spans, refused spans, attributes, events and
/// links beyond the limits) may be so many. A real one takes twenty bytes or more, so that no request of the default size
/// holds more; parts of two bytes would cost a second of work for a request that is a few kilobytes as sent.
const PARTS_LEFT_OUT_MAX: u32 = 4 * 1024 * 1024;
/// The spans of a request may take so many times the memory of the largest request. Usual ones take less than they did on
/// the wire; a link of five bytes takes forty.
const MEMORY_GROWTH_MAX: usize = 2;
/// Memory is looked at after so many spans, and after each with events or links.
const SPANS_PER_MEMORY_CHECK: u64 = 64;

/// The resource or scope that the spans being read have.
#[derive(Clone, Copy, Default)]
struct OpenOwner {
    index: u32,
    marks: Marks,
    /// How many spans were kept when it was finished.
    spans_before: usize,
}

/// How many keys can be remembered with what came after them; others share a slot.
const RECENT_SLOTS: usize = 256;

/// What was last seen with the key of a slot.
#[derive(Clone, Copy, Default)]
struct Recent {
    /// The key that followed.
    next_key: StringCode,
    /// The text of its value.
    value: StringCode,
}

#[derive(Clone, Copy, Default)]
struct LeftOut {
    /// Of the resource, scope or span itself.
    attributes: u32,
    /// Of the event or link being built.
    inner_attributes: u32,
    events: u32,
    links: u32,
}

impl<'l> BatchBuilder<'l> {
    pub(crate) fn new(limits: &'l Limits) -> Self {
        Self {
            batch: SpanBatch::new(),
            limits,
            binary_interned: false,
            marks: Marks::default(),
            resource: OpenOwner::default(),
            scope: OpenOwner::default(),
            left_out: LeftOut::default(),
            spans_seen: 0,
            parts_left_out: 0,
            excess: None,
            attributes_max: limits.attributes_per_span_max,
            rejected: Rejections::default(),
            wrong_attributes: decoded::LeftOut::default(),
            values_cut: 0,
            last_key: 0,
            recent: [Recent::default(); RECENT_SLOTS],
        }
    }

    pub(crate) fn limits(&self) -> &'l Limits {
        self.limits
    }

    pub(crate) fn finish(self) -> Decoded {
        Decoded { batch: self.batch, rejected: self.rejected, values_cut: self.values_cut }
    }

    /// Whether reading may go on. To be asked after every part of a request.
    #[inline]
    pub(crate) fn within_limits(&self) -> Result<(), Excess> {
        self.excess.map_or(Ok(()), Err)
    }

    /// Counts a part of which nothing is kept.
    fn leave_out_part(&mut self) {
        self.parts_left_out += 1;
        if self.parts_left_out > PARTS_LEFT_OUT_MAX {
            self.excess = Some(Excess::Parts { parts_max: PARTS_LEFT_OUT_MAX });
            self.attributes_max = 0;
        }
    }

    #[inline]
    fn check_memory(&mut self) {
        let bytes_max = self.limits.decompressed_bytes_max.saturating_mul(MEMORY_GROWTH_MAX);
        if self.batch.used_bytes() > bytes_max {
            self.excess = Some(Excess::Memory { bytes_max });
        }
    }

    /// The code of a name, message, key, trace state or URL.
    #[inline]
    pub(crate) fn name(&mut self, bytes: &[u8]) -> StringCode {
        self.text(bytes, self.limits.name_bytes_max)
    }

    #[inline]
    fn text(&mut self, bytes: &[u8], bytes_max: usize) -> StringCode {
        if bytes.len() <= bytes_max && !self.binary_interned {
            // A string that is in the table already has been checked when it came in.
            if let Some(code) = self.batch.strings.intern_if(bytes, |new| std::str::from_utf8(new).is_ok()) {
                return code;
            }
        }
        self.repaired_text(bytes, bytes_max)
    }

    #[cold]
    fn repaired_text(&mut self, bytes: &[u8], bytes_max: usize) -> StringCode {
        // What is cut off isn't looked at, but one character may straddle the limit: see `cut`.
        const LONGEST_CHAR: usize = 4;
        let looked_at = &bytes[..bytes.len().min(bytes_max.saturating_add(LONGEST_CHAR))];
        let text = String::from_utf8_lossy(looked_at);
        let end = text.floor_char_boundary(bytes_max);
        let kept = &text[..end];
        if !bytes.starts_with(kept.as_bytes()) {
            self.marks.insert(Marks::INVALID_UTF8);
        }
        if bytes.len() > bytes_max || kept.len() < text.len() {
            self.note_cut();
        }
        self.batch.strings.intern(kept.as_bytes())
    }

    fn note_cut(&mut self) {
        self.marks.insert(Marks::VALUE_CUT);
        self.values_cut += 1;
    }

    #[inline]
    fn lists(&mut self, owner: Owner) -> &mut AttributeLists {
        match owner {
            Owner::Span => &mut self.batch.attributes,
            Owner::Event => &mut self.batch.events.attributes,
            Owner::Link => &mut self.batch.links.attributes,
            Owner::Resource => &mut self.batch.resources.attributes,
            Owner::Scope => &mut self.batch.scopes.attributes,
        }
    }

    /// Whether the owner has room for one more attribute; if not, the attribute is counted as left out.
    #[inline]
    pub(crate) fn admit_attribute(&mut self, owner: Owner) -> bool {
        let admitted = self.lists(owner).open_len() < self.attributes_max;
        if !admitted {
            self.leave_out_attribute(owner);
        }
        admitted
    }

    #[cold]
    fn leave_out_attribute(&mut self, owner: Owner) {
        self.marks.insert(Marks::OVER_LIMIT);
        self.count_left_out_attribute(owner);
    }

    /// Leaves out an attribute that has a wrong value, and tells the sender.
    #[cold]
    pub(crate) fn leave_out_wrong_attribute(&mut self, owner: Owner, key: &[u8], fault: &Fault) {
        self.count_left_out_attribute(owner);
        let span = self.spans_seen;
        let whose = match owner {
            Owner::Resource => "the resource of ",
            Owner::Scope => "the scope of ",
            Owner::Span => "",
            Owner::Event => "an event of ",
            Owner::Link => "a link of ",
        };
        self.wrong_attributes.add(|| format!("{:?} of {whose}span {span} of the request, where {fault}", shown(key)));
    }

    /// How many spans of the request were read.
    pub(crate) fn spans_seen(&self) -> u64 {
        self.spans_seen
    }

    /// Tells the sender that a field of a resource or scope has a wrong value, of which nothing is kept.
    #[cold]
    pub(crate) fn note_wrong_field(&mut self, owner: &'static str, first_span: u64, fault: &Fault) {
        self.rejected.add_owner_field(|| format!("the {owner} of span {first_span} of the request, where {fault}"));
    }

    fn count_left_out_attribute(&mut self, owner: Owner) {
        self.leave_out_part();
        let count = match owner {
            Owner::Event | Owner::Link => &mut self.left_out.inner_attributes,
            Owner::Resource | Owner::Scope | Owner::Span => &mut self.left_out.attributes,
        };
        *count = count.saturating_add(1);
    }

    /// Adds an attribute, for which [`BatchBuilder::admit_attribute`] has been asked.
    #[inline]
    pub(crate) fn attribute(&mut self, owner: Owner, key: &[u8], value: RawValue<'_>) {
        let key = self.key(key);
        let value = match value {
            RawValue::String(bytes) => AttributeValue::String(self.value_text(key, bytes)),
            RawValue::Int(value) => AttributeValue::Int(value),
            RawValue::Double(value) => AttributeValue::Double(value),
            RawValue::Bool(value) => AttributeValue::Bool(value),
            RawValue::Empty => AttributeValue::Empty,
            RawValue::Bytes(bytes) => AttributeValue::Bytes(self.binary(bytes)),
        };
        self.push(owner, key, value);
    }

    /// A value takes the place of an earlier one with the same key, of which then nothing is kept.
    #[inline]
    fn push(&mut self, owner: Owner, key: StringCode, value: AttributeValue) {
        if !self.lists(owner).push(key, value) {
            self.leave_out_part();
        }
    }

    /// The code of a key. Spans of one kind repeat the same keys in the same order: the key that followed the last one
    /// before is compared first, which is cheaper than to look for it.
    #[inline]
    fn key(&mut self, bytes: &[u8]) -> StringCode {
        let slot = self.last_key as usize % RECENT_SLOTS;
        let guess = self.recent[slot].next_key;
        let code = if self.batch.strings.is(guess, bytes) { guess } else { self.name(bytes) };
        self.recent[slot].next_key = code;
        self.last_key = code;
        code
    }

    /// The code of the text of a value; the one that the key had before is compared first.
    #[inline]
    fn value_text(&mut self, key: StringCode, bytes: &[u8]) -> StringCode {
        let slot = key as usize % RECENT_SLOTS;
        let guess = self.recent[slot].value;
        if self.batch.strings.is(guess, bytes) {
            return guess;
        }
        let code = self.text(bytes, self.limits.attribute_value_bytes_max);
        self.recent[slot].value = code;
        code
    }

    fn binary(&mut self, bytes: &[u8]) -> StringCode {
        let bytes_max = self.limits.attribute_value_bytes_max;
        if bytes.len() > bytes_max {
            self.note_cut();
        }
        let kept = &bytes[..bytes.len().min(bytes_max)];
        if !self.binary_interned && std::str::from_utf8(kept).is_err() {
            self.binary_interned = true;
        }
        self.batch.strings.intern(kept)
    }

    /// Adds an attribute with an array or a key-value list, read with `room`; `None` if it was nested too deep, in
    /// which case the attribute is left out.
    pub(crate) fn nested_attribute(&mut self, owner: Owner, key: &[u8], value: Option<AnyValue>, room: &Room) {
        let Some(mut value) = value else { return self.leave_out_attribute(owner) };
        let bytes_max = self.limits.attribute_value_bytes_max;
        let mut cut = room.cut;
        let mut json = value.to_canonical_json();
        if json.len() > bytes_max {
            cut = true;
            nested::shorten(&mut value, bytes_max);
            json = value.to_canonical_json();
        }
        if cut {
            self.note_cut();
        }
        if room.invalid_utf8 {
            self.marks.insert(Marks::INVALID_UTF8);
        }
        let key = self.name(key);
        let code = self.batch.strings.intern_str(&json);
        self.push(owner, key, AttributeValue::Json(code));
    }

    /// Finishes the resource whose attributes were pushed; the spans that follow have it, until
    /// [`BatchBuilder::end_resource`].
    pub(crate) fn finish_resource(&mut self, dropped_attributes: u32, schema_url: &[u8]) {
        let schema_url = self.name(schema_url);
        let left_out = std::mem::take(&mut self.left_out);
        let dropped = dropped_attributes.saturating_add(left_out.attributes);
        self.tell_wrong_attributes();
        let index = self.batch.finish_resource(dropped, schema_url);
        self.resource = OpenOwner { index, marks: std::mem::take(&mut self.marks), spans_before: self.batch.len() };
    }

    /// The schema URL of the resource, if it comes after the spans.
    pub(crate) fn late_schema_url_of_resource(&mut self, schema_url: &[u8]) {
        self.batch.resources.schema_url[self.resource.index as usize] = self.name(schema_url);
        let marks = std::mem::take(&mut self.marks);
        if marks != Marks::default() {
            let spans = &mut self.batch.marks[self.resource.spans_before..];
            spans.iter_mut().for_each(|of_span| *of_span |= marks.0);
        }
    }

    /// Ends the spans of a resource; one without any is not kept.
    pub(crate) fn end_resource(&mut self) {
        if self.batch.len() == self.resource.spans_before {
            self.batch.take_back_resource();
            self.leave_out_part();
        }
    }

    /// Finishes the scope whose attributes were pushed; the spans that follow have it, until [`BatchBuilder::end_scope`].
    pub(crate) fn finish_scope(&mut self, name: &[u8], version: &[u8], dropped_attributes: u32) {
        let (name, version) = (self.name(name), self.name(version));
        let left_out = std::mem::take(&mut self.left_out);
        let dropped = dropped_attributes.saturating_add(left_out.attributes);
        self.tell_wrong_attributes();
        let index = self.batch.finish_scope(name, version, dropped, 0);
        self.scope = OpenOwner { index, marks: std::mem::take(&mut self.marks), spans_before: self.batch.len() };
    }

    /// Ends the spans of a scope, whose schema URL may come after them; a scope without spans is not kept.
    pub(crate) fn end_scope(&mut self, schema_url: &[u8]) {
        if self.batch.len() == self.scope.spans_before {
            self.batch.take_back_scope();
            self.leave_out_part();
            return;
        }
        self.batch.scopes.schema_url[self.scope.index as usize] = self.name(schema_url);
        // What was noticed about it belongs to no span.
        self.marks = Marks::default();
    }

    /// Makes room for spans that take so many bytes of a request.
    pub(crate) fn reserve_spans(&mut self, request_bytes: usize) {
        /// More than most spans take: a little too few are reserved rather than too many.
        const BYTES_PER_SPAN: usize = 512;
        self.batch.reserve(request_bytes / BYTES_PER_SPAN);
    }

    /// Whether the span has room for one more event; if not, the event is counted as left out.
    #[inline]
    pub(crate) fn admit_event(&mut self) -> bool {
        let admitted = self.batch.open_events() < self.limits.events_per_span_max;
        if !admitted {
            self.marks.insert(Marks::OVER_LIMIT);
            self.left_out.events = self.left_out.events.saturating_add(1);
            self.leave_out_part();
        }
        admitted
    }

    /// Finishes the event whose attributes were pushed. One without any content is not kept: two bytes of a request
    /// must not become many times as much memory.
    pub(crate) fn finish_event(&mut self, time_unix_nanos: u64, name: StringCode, dropped_attributes: u32) {
        let left_out = std::mem::take(&mut self.left_out.inner_attributes);
        let dropped_attributes = dropped_attributes.saturating_add(left_out);
        let has_attributes = self.batch.events.attributes.open_len() > 0;
        if time_unix_nanos == 0 && name == 0 && dropped_attributes == 0 && !has_attributes {
            self.left_out.events = self.left_out.events.saturating_add(1);
            self.leave_out_part();
            return;
        }
        let time_unix_nanos = i64::try_from(time_unix_nanos).unwrap_or(i64::MAX);
        self.batch.finish_event(time_unix_nanos, name, dropped_attributes);
    }

    /// Whether the span has room for one more link; if not, the link is counted as left out.
    #[inline]
    pub(crate) fn admit_link(&mut self) -> bool {
        let admitted = self.batch.open_links() < self.limits.links_per_span_max;
        if !admitted {
            self.marks.insert(Marks::OVER_LIMIT);
            self.left_out.links = self.left_out.links.saturating_add(1);
            self.leave_out_part();
        }
        admitted
    }

    /// Finishes the link whose attributes were pushed. Ids of a wrong length become zero ids. A link that names no
    /// span is kept only if it says something else, as OpenTelemetry's API has it (`trace/api.md`, "Link").
    pub(crate) fn finish_link(
        &mut self,
        trace_id: &[u8],
        span_id: &[u8],
        trace_state: StringCode,
        flags: u32,
        dropped_attributes: u32,
    ) {
        let left_out = std::mem::take(&mut self.left_out.inner_attributes);
        let dropped_attributes = dropped_attributes.saturating_add(left_out);
        let trace_id = trace_id.try_into().map_or(TraceId::NONE, TraceId);
        let span_id = span_id.try_into().map_or(SpanId::NONE, SpanId);
        let names_none = trace_id.is_none() && span_id.is_none();
        let has_attributes = self.batch.links.attributes.open_len() > 0;
        if names_none && trace_state == 0 && flags == 0 && dropped_attributes == 0 && !has_attributes {
            self.left_out.links = self.left_out.links.saturating_add(1);
            self.leave_out_part();
            return;
        }
        self.batch.finish_link(trace_id, span_id, trace_state, flags, dropped_attributes);
    }

    /// Finishes the span whose attributes, events and links were pushed, or refuses it.
    #[inline]
    pub(crate) fn finish_span(&mut self, raw: &RawSpan<'_>) {
        let noticed = std::mem::take(&mut self.marks);
        let left_out = std::mem::take(&mut self.left_out);
        let position = self.spans_seen;
        self.spans_seen += 1;
        let mut span = match repaired(raw) {
            Ok(span) => span,
            Err(reason) => {
                self.rejected.add(reason, position);
                return self.discard_span();
            }
        };
        self.tell_wrong_attributes();
        for marks in [noticed, self.resource.marks, self.scope.marks] {
            span.marks.insert(marks);
        }
        if span.trace_state != 0 {
            span.sampling_threshold = Threshold::from_trace_state(self.batch.strings.get(span.trace_state));
        }
        span.dropped_attributes = raw.dropped_attributes.saturating_add(left_out.attributes);
        span.dropped_events = raw.dropped_events.saturating_add(left_out.events);
        span.dropped_links = raw.dropped_links.saturating_add(left_out.links);
        span.resource = self.resource.index;
        span.scope = self.scope.index;
        let many_parts = self.batch.open_events() + self.batch.open_links() > 0;
        self.batch.finish_span(span);
        if many_parts || self.spans_seen.is_multiple_of(SPANS_PER_MEMORY_CHECK) {
            self.check_memory();
        }
    }

    /// Refuses the span whose attributes, events and links were pushed, because a field of it has a wrong value.
    #[cold]
    pub(crate) fn refuse_span(&mut self, fault: &Fault) {
        self.marks = Marks::default();
        self.left_out = LeftOut::default();
        self.rejected.add_fault(fault, self.spans_seen);
        self.spans_seen += 1;
        self.discard_span();
    }

    fn discard_span(&mut self) {
        self.batch.discard_span();
        self.leave_out_part();
        // The sender is told of the whole span.
        self.wrong_attributes = decoded::LeftOut::default();
    }

    /// What was built is kept: the sender is told what was left out of it.
    #[inline]
    fn tell_wrong_attributes(&mut self) {
        if self.wrong_attributes.count > 0 {
            self.rejected.add_attributes(std::mem::take(&mut self.wrong_attributes));
        }
    }
}

/// A key in words for the sender.
fn shown(key: &[u8]) -> String {
    const CHARACTERS_MAX: usize = 100;
    String::from_utf8_lossy(&key[..key.len().min(4 * CHARACTERS_MAX)]).chars().take(CHARACTERS_MAX).collect()
}

/// The fields that can be judged without the batch, checked and repaired.
#[inline]
fn repaired(raw: &RawSpan<'_>) -> Result<SpanFields, RejectReason> {
    let trace_id = raw.trace_id.try_into().map(TraceId).map_err(|_| RejectReason::TraceId)?;
    if trace_id.is_none() {
        return Err(RejectReason::TraceId);
    }
    let span_id = raw.span_id.try_into().map(SpanId).map_err(|_| RejectReason::SpanId)?;
    if span_id.is_none() {
        return Err(RejectReason::SpanId);
    }
    let mut marks = Marks::default();
    let mut parent_span_id = SpanId::NONE;
    if !raw.parent_span_id.is_empty() {
        parent_span_id = raw.parent_span_id.try_into().map(SpanId).map_err(|_| RejectReason::ParentSpanId)?;
        if parent_span_id == span_id {
            parent_span_id = SpanId::NONE;
            marks.insert(Marks::OWN_PARENT);
        }
    }
    if raw.start_unix_nanos == 0 {
        return Err(RejectReason::NoStart);
    }
    let start_unix_nanos = i64::try_from(raw.start_unix_nanos).map_err(|_| RejectReason::TimeRange)?;
    let end_unix_nanos = i64::try_from(raw.end_unix_nanos).map_err(|_| RejectReason::TimeRange)?;
    let mut duration_nanos = end_unix_nanos - start_unix_nanos;
    if duration_nanos < 0 {
        marks.insert(if end_unix_nanos == 0 { Marks::NO_END } else { Marks::END_BEFORE_START });
        duration_nanos = 0;
    }
    const KIND_MAX: i32 = tracehouse_model::kind::CONSUMER as i32;
    const STATUS_MAX: i32 = tracehouse_model::status::ERROR as i32;
    let kind_known = (0..=KIND_MAX).contains(&raw.kind);
    let status_known = (0..=STATUS_MAX).contains(&raw.status_code);
    if !(kind_known && status_known) {
        marks.insert(Marks::UNKNOWN_ENUM);
    }
    Ok(SpanFields {
        trace_id,
        span_id,
        parent_span_id,
        start_unix_nanos,
        duration_nanos,
        name: raw.name,
        kind: if kind_known { raw.kind as u8 } else { tracehouse_model::kind::UNSPECIFIED },
        status_code: if status_known { raw.status_code as u8 } else { tracehouse_model::status::UNSET },
        status_message: raw.status_message,
        trace_state: raw.trace_state,
        flags: raw.flags,
        marks,
        ..SpanFields::default()
    })
}
