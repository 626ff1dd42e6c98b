use std::io::{self, Write};

use serde::Deserialize;

use super::text::{BOLD, DIM, RED, Style, duration, fit, service_colour, time, width};

/// A trace as the native API answers: columns, spans in pre-order of the tree.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Trace {
    trace_id: String,
    span_count: u64,
    returned: u64,
    #[serde(default)]
    partial_reason: Option<String>,
    start_time_unix_nano: String,
    duration_nanos: i64,
    error_count: u64,
    services: Vec<String>,
    names: Vec<String>,
    #[serde(default)]
    targets: Vec<String>,
    spans: Spans,
}

#[derive(Deserialize)]
struct Spans {
    /// Index of the parent; -1 for a root, -2 if the parent is missing.
    parent: Vec<i64>,
    /// Nanoseconds after the start of the trace.
    start: Vec<i64>,
    duration: Vec<i64>,
    service: Vec<usize>,
    name: Vec<usize>,
    /// -1 if what the span is about is not known, or its name says it.
    #[serde(default)]
    target: Vec<i64>,
    status: Vec<u8>,
}

const STATUS_ERROR: u8 = 2;
const DURATION_WIDTH: usize = 9;

/// Prints a heading and one line per span: where it stands in the tree, service, name, error mark, duration, and a bar
/// that shows when it ran.
pub(super) fn print(out: &mut impl Write, trace: &Trace, style: &Style) -> io::Result<()> {
    print_heading(out, trace, style)?;
    let label_width = (style.width * 11 / 20).min(90);
    let bar_width = style.width.saturating_sub(label_width + DURATION_WIDTH + 5);
    let mut branches = Branches::of(&trace.spans.parent);
    for row in 0..trace.spans.parent.len() {
        let service = text_at(&trace.services, &trace.spans.service, row);
        let name = text_at(&trace.names, &trace.spans.name, row);
        let target = trace.spans.target.get(row).and_then(|code| trace.targets.get(usize::try_from(*code).ok()?));
        let target = target.map(|target| format!(" {target}")).unwrap_or_default();
        let branch = branches.next(row, label_width / 2);
        let orphan = if trace.spans.parent[row] == -2 { "(parent missing) " } else { "" };
        let room = label_width.saturating_sub(width(&branch));
        let service_text = fit(service, room);
        let name_text = fit(&format!("{orphan}{name}{target}"), room.saturating_sub(width(&service_text) + 2));
        let used = width(&branch) + width(&service_text) + 2 + width(&name_text);
        let padding = " ".repeat(label_width.saturating_sub(used));
        let failed = trace.spans.status.get(row) == Some(&STATUS_ERROR);
        let mark = if failed { style.paint(RED, "✗") } else { " ".to_owned() };
        let length = trace.spans.duration.get(row).copied().unwrap_or_default();
        let start = trace.spans.start.get(row).copied().unwrap_or_default();
        let bar = bar(start, length, trace.duration_nanos, bar_width);
        let line = format!(
            "{}{}  {}{padding} {mark} {:>DURATION_WIDTH$}  {}",
            style.paint(DIM, branch),
            style.paint(service_colour(service), service_text),
            if failed { style.paint(RED, name_text) } else { name_text },
            duration(length),
            style.paint(if failed { RED } else { service_colour(service) }, bar),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn print_heading(out: &mut impl Write, trace: &Trace, style: &Style) -> io::Result<()> {
    let plural = |count: u64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let started = trace.start_time_unix_nano.parse().map(time).unwrap_or_default();
    let errors = plural(trace.error_count, "error");
    let errors = if trace.error_count > 0 { style.paint(RED, errors) } else { errors };
    writeln!(out, "{}", style.paint(BOLD, format!("Trace {}", trace.trace_id)))?;
    writeln!(
        out,
        "{} · {} · {} · {errors} · {started}",
        duration(trace.duration_nanos),
        plural(trace.span_count, "span"),
        plural(trace.services.len() as u64, "service"),
    )?;
    if trace.returned < trace.span_count {
        writeln!(out, "showing {} of {} spans", trace.returned, trace.span_count)?;
    }
    if let Some(reason) = &trace.partial_reason {
        writeln!(out, "not complete: {reason}")?;
    }
    writeln!(out)
}

fn text_at<'a>(texts: &'a [String], codes: &[usize], row: usize) -> &'a str {
    codes.get(row).and_then(|code| texts.get(*code)).map_or("", String::as_str)
}

/// Where a span lies in the trace's time: blanks, then at least one mark.
fn bar(start: i64, length: i64, whole: i64, width: usize) -> String {
    if width == 0 {
        return String::new();
    }
    let scale = width as f64 / whole.max(1) as f64;
    let first = ((start.max(0) as f64 * scale) as usize).min(width - 1);
    let cells = (length.max(0) as f64 * scale).round() as usize;
    let marks = if cells == 0 { "▏".to_owned() } else { "█".repeat(cells.min(width - first)) };
    format!("{}{marks}", " ".repeat(first))
}

/// Draws the lines of the tree, row by row in pre-order.
struct Branches<'a> {
    parent: &'a [i64],
    /// The last child of each row.
    last_child: Vec<Option<usize>>,
    /// For the row last drawn and its ancestors, from the root on: the row, and whether it is its parent's last child.
    path: Vec<(usize, bool)>,
}

impl<'a> Branches<'a> {
    fn of(parent: &'a [i64]) -> Self {
        let mut last_child = vec![None; parent.len()];
        for (row, parent) in parent.iter().enumerate() {
            if let Some(slot) = usize::try_from(*parent).ok().and_then(|parent| last_child.get_mut(parent)) {
                *slot = Some(row);
            }
        }
        Self { parent, last_child, path: Vec::new() }
    }

    /// The lines before a row, at most about `width_max` characters; deeper levels are left out on the left.
    fn next(&mut self, row: usize, width_max: usize) -> String {
        let parent = usize::try_from(self.parent[row]).ok();
        while self.path.last().is_some_and(|(above, _)| Some(*above) != parent) {
            self.path.pop();
        }
        let is_last = parent.is_none_or(|parent| self.last_child.get(parent) == Some(&Some(row)));
        self.path.push((row, is_last));
        let depth = self.path.len() - 1;
        if depth == 0 {
            return String::new();
        }
        let levels_max = (width_max / 3).max(1);
        let skipped = depth.saturating_sub(levels_max);
        let mut branch = if skipped > 0 { format!("{skipped}…") } else { String::new() };
        for (_, last) in &self.path[1 + skipped..depth] {
            branch.push_str(if *last { "   " } else { "│  " });
        }
        branch.push_str(if is_last { "└─ " } else { "├─ " });
        branch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(answer: &str, width: usize) -> Vec<String> {
        let trace: Trace = serde_json::from_str(answer).expect("the test's answer is a trace");
        let mut out = Vec::new();
        print(&mut out, &trace, &Style { colours: false, width }).expect("writing to memory cannot fail");
        String::from_utf8(out).expect("what is printed is text").lines().map(str::to_owned).collect()
    }

    #[test]
    fn prints_a_tree() {
        let answer = r#"{"traceId":"0af7651916cd43dd8448eb211c80319c","spanCount":5,"returned":5,"complete":true,
            "partialReason":null,"startTimeUnixNano":"1709210096789000000","durationNanos":100000000,"errorCount":1,
            "services":["gateway","購物車"],"names":["GET /","load","query"],
            "spans":{"id":["a","b","c","d","e"],"parent":[-1,0,1,0,-2],"start":[0,10000000,20000000,60000000,90000000],
            "duration":[100000000,40000000,20000000,30000000,1000],"service":[0,1,1,1,0],"name":[0,1,2,2,0],
            "kind":[2,1,3,3,2],"status":[0,0,2,0,0]}}"#;
        let lines = printed(answer, 80);
        let expected = [
            "Trace 0af7651916cd43dd8448eb211c80319c",
            "100ms · 5 spans · 2 services · 1 error · 2024-02-29T12:34:56.789Z",
            "",
            "gateway  GET /                                      100ms  ██████████████████████",
            "├─ 購物車  load                                    40.0ms    █████████",
            "│  └─ 購物車  query                          ✗     20.0ms      ████",
            "└─ 購物車  query                                   30.0ms               ███████",
            "gateway  (parent missing) GET /                    1.00us                     ▏",
        ];
        assert_eq!(lines.iter().map(|line| squeeze(line)).collect::<Vec<_>>(), expected.map(squeeze));
        assert!(lines.iter().all(|line| super::width(line) <= 80));
        let column = |line: &str, mark| line.find(mark).map(|at| super::width(&line[..at]));
        assert_eq!(
            lines[3..].iter().map(|line| column(line, "s  ")).collect::<Vec<_>>(),
            [column(&lines[3], "s  "); 5]
        );
    }

    /// Blanks matter to the eye but not to this test.
    fn squeeze(line: &str) -> String {
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_deep_chain_stays_within_the_width() {
        let count = 300;
        let parents: Vec<i64> = (-1..count - 1).collect();
        let ones = vec![1; count as usize];
        let zeros = vec![0; count as usize];
        let answer = serde_json::json!({"traceId":"00","spanCount":count,"returned":count,"complete":true,
            "startTimeUnixNano":"0","durationNanos":10,"errorCount":0,"services":["a service"],"names":["a name"],
            "spans":{"parent":parents,"start":zeros,"duration":ones,"service":zeros,"name":zeros,"status":zeros}});
        for line in printed(&answer.to_string(), 100) {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }
}
