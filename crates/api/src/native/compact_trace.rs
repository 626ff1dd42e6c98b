//! Writes a trace as columns of JSON. A trace may have hundreds of thousands of spans, so it goes from the columns of
//! the batch straight to bytes.

use tracehouse_model::{AttributeValue, SpanBatch, StringCode};
use tracehouse_query::{ParentRow, TENANT_KEY, Targets, Trace};

use crate::json;

pub(crate) fn write(trace: &Trace, with_targets: bool) -> Vec<u8> {
    const BYTES_PER_SPAN: usize = 72;
    let spans = &trace.spans;
    let mut out = Vec::with_capacity(1024 + BYTES_PER_SPAN * spans.len());
    out.push(b'{');
    write_summary(&mut out, trace);
    let services = Numbered::new(spans, (0..spans.len()).map(|row| spans.service_name(row)));
    let names = Numbered::new(spans, spans.name.iter().copied());
    let tenants = tenants(trace);
    let of_tenants = tenants.as_ref().map(|tenants| ("tenants", tenants));
    for (field, numbered) in [("services", &services), ("names", &names)].into_iter().chain(of_tenants) {
        json::key(&mut out, field);
        json::array(&mut out, &numbered.codes, |out, code| json::write(out, spans.strings.get(*code)));
    }
    let mut targets = Targets::new(spans);
    let rows = if with_targets { 0..spans.len() } else { 0..0 };
    let of_spans: Vec<i64> = rows.map(|row| targets.number(row).map_or(-1, i64::from)).collect();
    let has_targets = !targets.texts().is_empty();
    if has_targets {
        json::key(&mut out, "targets");
        json::array(&mut out, targets.texts(), json::write);
    }
    json::key(&mut out, "spans");
    out.push(b'{');
    write_columns(&mut out, trace, &services, &names);
    if has_targets {
        column(&mut out, "target", of_spans, |number| number);
    }
    if let Some(tenants) = &tenants {
        column(&mut out, "tenant", codes_of_tenants(spans), |code| i64::from(tenants.number(code)));
    }
    out.extend_from_slice(b"}}");
    out
}

/// Whose spans there are, if several tenants were asked.
fn tenants(trace: &Trace) -> Option<Numbered> {
    (!trace.tenants.is_empty()).then(|| Numbered::new(&trace.spans, codes_of_tenants(&trace.spans)))
}

/// The name of each span's tenant, as its resource says.
fn codes_of_tenants(spans: &SpanBatch) -> impl Iterator<Item = StringCode> {
    let key = spans.strings.find(TENANT_KEY.as_bytes());
    let of_resource = move |resource: usize| key.and_then(|key| spans.resources.attributes.get(resource, key));
    spans.resource.iter().map(move |resource| match of_resource(*resource as usize) {
        Some(AttributeValue::String(code)) => code,
        _ => 0,
    })
}

fn write_summary(out: &mut Vec<u8>, trace: &Trace) {
    let spans = &trace.spans;
    let returned = spans.len() as u64;
    let cut = (returned < trace.span_count).then(|| format!("{returned} of {} spans are shown", trace.span_count));
    let partial_reason = trace.partial_reason.clone().or(cut);
    // The earliest span stands in for a root that is missing.
    let earliest = || (0..spans.len()).min_by_key(|row| spans.start_unix_nanos[*row]);
    let root = trace.root.map(|row| row as usize).or_else(earliest);
    let text = |code: Option<StringCode>| code.map_or("", |code| spans.strings.get(code));
    json::field(out, "traceId", &trace.trace_id.to_string());
    json::field(out, "spanCount", &trace.span_count);
    json::field(out, "returned", &returned);
    json::field(out, "complete", &partial_reason.is_none());
    json::field(out, "partialReason", &partial_reason);
    json::field(out, "startTimeUnixNano", &trace.start_unix_nanos.to_string());
    json::field(out, "durationNanos", &trace.duration_nanos);
    json::field(out, "rootServiceName", text(root.map(|row| spans.service_name(row))));
    json::field(out, "rootSpanName", text(root.map(|row| spans.name[row])));
    json::field(out, "errorCount", &trace.error_count);
    json::field(out, "duplicates", &trace.duplicates);
}

fn write_columns(out: &mut Vec<u8>, trace: &Trace, services: &Numbered, names: &Numbered) {
    let spans = &trace.spans;
    let rows = || 0..spans.len();
    json::key(out, "id");
    json::array(out, &spans.span_id, |out, id| json::hex(out, id.0));
    column(out, "parent", &trace.parent, |parent| match parent {
        ParentRow::Root => -1,
        ParentRow::Missing => -2,
        ParentRow::Row(row) => i64::from(*row),
    });
    if trace.parent.contains(&ParentRow::Missing) {
        json::key(out, "parentId");
        json::array(out, rows(), |out, row| match trace.parent[row] {
            ParentRow::Missing => json::hex(out, spans.parent_span_id[row].0),
            _ => out.extend_from_slice(b"\"\""),
        });
    }
    column(out, "start", &spans.start_unix_nanos, |start| start.saturating_sub(trace.start_unix_nanos).max(0));
    column(out, "duration", &spans.duration_nanos, |duration| *duration);
    column(out, "service", rows(), |row| i64::from(services.number(spans.service_name(row))));
    column(out, "name", &spans.name, |name| i64::from(names.number(*name)));
    column(out, "kind", &spans.kind, |kind| i64::from(*kind));
    column(out, "status", &spans.status_code, |status| i64::from(*status));
    column(out, "events", rows(), |row| spans.event_range(row).len() as i64);
    column(out, "links", rows(), |row| spans.link_range(row).len() as i64);
    let exception = spans.strings.find(b"exception");
    column(out, "exception", rows(), |row| {
        let thrown = exception.is_some_and(|code| spans.event_range(row).any(|event| spans.events.name[event] == code));
        i64::from(thrown)
    });
}

fn column<T>(out: &mut Vec<u8>, name: &str, values: impl IntoIterator<Item = T>, number: impl Fn(T) -> i64) {
    json::key(out, name);
    json::array(out, values, |out, value| json::integer(out, number(value)));
}

/// The distinct strings of a column, numbered from 0 in order of appearance.
struct Numbered {
    codes: Vec<StringCode>,
    number_of_code: Vec<u32>,
}

impl Numbered {
    fn new(spans: &SpanBatch, column: impl Iterator<Item = StringCode>) -> Self {
        let mut numbered = Self { codes: Vec::new(), number_of_code: vec![u32::MAX; spans.strings.len()] };
        for code in column {
            let number = &mut numbered.number_of_code[code as usize];
            if *number == u32::MAX {
                *number = numbered.codes.len() as u32;
                numbered.codes.push(code);
            }
        }
        numbered
    }

    fn number(&self, code: StringCode) -> u32 {
        self.number_of_code[code as usize]
    }
}
