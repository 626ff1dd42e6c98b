use std::io::{self, Write};

use serde::Deserialize;

use super::text::{BOLD, DIM, RED, Style, duration, fit, service_colour, time_in_seconds, width};

/// What the native API answers to a search.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) traces: Vec<Trace>,
    /// Not there if the newest were found without looking at the others.
    #[serde(default)]
    traces_matched: Option<u64>,
    #[serde(default)]
    partial_reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    pub(super) trace_id: String,
    /// There if several tenants were asked.
    #[serde(default)]
    tenant: Option<String>,
    root_service_name: String,
    root_span_name: String,
    /// What it is about beside its name.
    #[serde(default)]
    root_target: String,
    start_time_unix_nano: String,
    duration_nanos: i64,
    span_count: u64,
    error_count: u64,
}

/// Prints one line per trace, and how many there are besides.
pub(super) fn print(out: &mut impl Write, answer: &Answer, style: &Style) -> io::Result<()> {
    if !answer.traces.is_empty() {
        print_heading(out, style)?;
    }
    for trace in &answer.traces {
        print_trace(out, trace, style)?;
    }
    if let Some(matched) = answer.traces_matched.filter(|matched| *matched > answer.traces.len() as u64) {
        let of = if answer.partial_reason.is_some() { "of at least" } else { "of" };
        writeln!(out, "{} {of} {matched} traces", answer.traces.len())?;
    }
    if let Some(reason) = &answer.partial_reason {
        writeln!(out, "not complete: {reason}")?;
    }
    if answer.traces.is_empty() {
        let so_far = if answer.partial_reason.is_some() { " among those that were looked at" } else { "" };
        writeln!(out, "no trace matches{so_far}")?;
    }
    Ok(())
}

pub(super) fn print_heading(out: &mut impl Write, style: &Style) -> io::Result<()> {
    let heading = format!("{:<32}  {:<20}  {:>9}  {:>6}  {:>6}  ROOT", "TRACE", "START", "DURATION", "SPANS", "ERRORS");
    writeln!(out, "{}", style.paint(BOLD, heading))
}

pub(super) fn print_trace(out: &mut impl Write, trace: &Trace, style: &Style) -> io::Result<()> {
    const LEFT_WIDTH: usize = 32 + 20 + 9 + 6 + 6 + 5 * 2;
    let start = trace.start_time_unix_nano.parse().map(time_in_seconds).unwrap_or_default();
    let errors = format!("{:>6}", trace.error_count);
    let errors = if trace.error_count > 0 { style.paint(RED, errors) } else { errors };
    let room = style.width.saturating_sub(LEFT_WIDTH).max(24);
    let service = match &trace.tenant {
        Some(tenant) => fit(&format!("{tenant}: {}", trace.root_service_name), room),
        None => fit(&trace.root_service_name, room),
    };
    let name = [&*trace.root_span_name, &trace.root_target].join(" ");
    let name = fit(name.trim_end(), room.saturating_sub(width(&service) + 2).max(8));
    writeln!(
        out,
        "{}  {}  {:>9}  {:>6}  {errors}  {}  {name}",
        trace.trace_id,
        style.paint(DIM, start),
        duration(trace.duration_nanos),
        trace.span_count,
        style.paint(service_colour(&trace.root_service_name), service),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(answer: &str) -> String {
        let answer: Answer = serde_json::from_str(answer).expect("the test's answer is that of a search");
        let mut out = Vec::new();
        print(&mut out, &answer, &Style { colours: false, width: 140 }).expect("writing to memory cannot fail");
        String::from_utf8(out).expect("what is printed is text")
    }

    #[test]
    fn prints_a_table() {
        let text = printed(
            r#"{"traces":[{"traceId":"0af7651916cd43dd8448eb211c80319c","rootServiceName":"gateway","rootSpanName":"GET /",
            "startTimeUnixNano":"1709210096789000000","durationNanos":1234000000,"spanCount":12,"errorCount":1,
            "rootMissing":false,"services":[],"matchedCount":2,"spansets":[]}],"complete":false,"partialReason":"1 of 2 files"}"#,
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("TRACE ") && lines[0].ends_with(" ROOT"));
        let expected =
            "0af7651916cd43dd8448eb211c80319c  2024-02-29T12:34:56Z      1.23s      12       1  gateway  GET /";
        assert_eq!(lines[1], expected);
        assert_eq!(lines[2], "not complete: 1 of 2 files");
    }

    #[test]
    fn says_how_many_match() {
        let answer = |partial: &str| {
            let trace = r#"{"traceId":"0af7651916cd43dd8448eb211c80319c","rootServiceName":"gateway","rootSpanName":"GET /",
                "startTimeUnixNano":"1709210096789000000","durationNanos":1,"spanCount":1,"errorCount":0}"#;
            printed(&format!(r#"{{"traces":[{trace}],"tracesMatched":12,"partialReason":{partial}}}"#))
        };
        assert_eq!(answer("null").lines().nth(2), Some("1 of 12 traces"));
        assert_eq!(answer("\"1 of 2 files\"").lines().nth(2), Some("1 of at least 12 traces"));
    }

    #[test]
    fn names_the_tenants_of_several() {
        let text = printed(
            r#"{"traces":[{"traceId":"0af7651916cd43dd8448eb211c80319c","tenant":"acme","rootServiceName":"gateway",
            "rootSpanName":"GET /","startTimeUnixNano":"1709210096789000000","durationNanos":1,"spanCount":1,"errorCount":0}]}"#,
        );
        assert!(text.lines().nth(1).is_some_and(|line| line.ends_with("acme: gateway  GET /")), "{text}");
    }

    #[test]
    fn says_that_nothing_matches() {
        assert_eq!(printed(r#"{"traces":[],"complete":true,"partialReason":null}"#), "no trace matches\n");
    }
}
