//! The table and its JSON.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::yardstick::Yardstick;

/// One line of the table: a value against its bar. Lower is better in every row.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    /// What the value is compared with, in the same unit, if there is such a measure.
    pub(crate) yardstick: Option<f64>,
    /// The value divided by the yardstick.
    pub(crate) ratio: Option<f64>,
    /// The most that is allowed: of the ratio where there is one, of the value otherwise.
    pub(crate) bar: f64,
    pub(crate) pass: bool,
    pub(crate) notes: Vec<String>,
    /// Further figures, for machines.
    pub(crate) details: Map<String, Value>,
}

impl Row {
    /// A value that must not exceed the bar.
    pub(crate) fn absolute(name: &'static str, value: f64, unit: &'static str, bar: f64) -> Self {
        Self {
            name,
            value,
            unit,
            yardstick: None,
            ratio: None,
            bar,
            pass: value <= bar,
            notes: Vec::new(),
            details: Map::new(),
        }
    }

    /// A value that must not exceed so many times the yardstick.
    pub(crate) fn relative(name: &'static str, value: f64, unit: &'static str, yardstick: f64, bar: f64) -> Self {
        let ratio = value / yardstick;
        Self {
            yardstick: Some(yardstick),
            ratio: Some(ratio),
            pass: ratio <= bar,
            ..Self::absolute(name, value, unit, bar)
        }
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }

    /// A condition besides the bar; the row fails without it, and says so.
    pub(crate) fn require(mut self, holds: bool, otherwise: impl Into<String>) -> Self {
        if !holds {
            self.pass = false;
            self.notes.push(format!("FAILED: {}", otherwise.into()));
        }
        self
    }
}

/// Everything a run found.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Map<String, Value>,
    pub(crate) yardstick: Option<Yardstick>,
    pub(crate) rows: Vec<Row>,
    /// Parts that could not be measured, and why.
    pub(crate) errors: Vec<String>,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut cells = vec![["what", "measured", "yardstick", "ratio", "bar", ""].map(str::to_owned)];
        for row in &self.rows {
            let number = |value: f64| format!("{} {}", round(value), row.unit);
            cells.push([
                row.name.to_owned(),
                number(row.value),
                row.yardstick.map(number).unwrap_or_default(),
                row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                if row.ratio.is_some() { format!("<= {:.2} x", row.bar) } else { format!("<= {}", number(row.bar)) },
                if row.pass { "ok" } else { "MISSED" }.to_owned(),
            ]);
        }
        let mut table = String::new();
        let widths: Vec<usize> =
            (0..6).map(|n| cells.iter().map(|row| row[n].chars().count()).max().unwrap_or(0)).collect();
        for (number, row) in cells.iter().enumerate() {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            let _ = writeln!(table, "| {} |", padded.join(" | "));
            if number == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
                let _ = writeln!(table, "| {} |", rules.join(" | "));
            }
        }
        for row in &self.rows {
            for note in &row.notes {
                let _ = writeln!(table, "- {}: {note}", row.name);
            }
        }
        for error in &self.errors {
            let _ = writeln!(table, "- NOT MEASURED: {error}");
        }
        table
    }
}

/// Three significant digits, or whole numbers where they are larger.
fn round(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.digits$}")
}

/// Where and when it was measured.
pub(crate) fn machine(server: &Path) -> Map<String, Value> {
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let first = |path: &str, key: &str| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let facts = json!({
        "cores": cores,
        "processor": first("/proc/cpuinfo", "model name"),
        "memory": first("/proc/meminfo", "MemTotal"),
        "kernel": std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
        "load_at_start": load.split_whitespace().next(),
        "date": output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"]),
        "git": output("git", &["describe", "--always", "--dirty"]),
        "server": output(&server.display().to_string(), &["--version"]),
    });
    match facts {
        Value::Object(facts) => facts,
        _ => Map::new(),
    }
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
