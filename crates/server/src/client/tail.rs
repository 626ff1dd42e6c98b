//! `tracehouse tail`: prints matching traces as they come.

use std::collections::{HashSet, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::http::ApiClient;
use super::search_table::{Trace, print_heading, print_trace};
use super::text::Style;
use super::{Conditions, ServerOptions};
use crate::Ending;

/// How often it looks.
const LOOKS_PER_SECOND: u32 = 2;
/// A server that does not answer is asked again after this.
const REST: Duration = Duration::from_secs(2);
/// A trace of which more spans come is not printed again, as long as it is among the last so many.
const REMEMBERED_MAX: usize = 10_000;

/// A trace is printed when the first span comes that satisfies all conditions, as far as it has come by then.
#[derive(Args, Clone, Debug)]
pub struct TailOptions {
    #[command(flatten)]
    pub conditions: Conditions,
    /// Maximum traces to print in a second; how many more there were is told.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rate: u32,
    /// End after so many traces.
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u64>,
    #[command(flatten)]
    pub server: ServerOptions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    #[serde(borrow)]
    traces: Vec<&'a RawValue>,
    traces_matched: u64,
    position: String,
    #[serde(default)]
    partial_reason: Option<String>,
}

/// The traces that were printed last.
#[derive(Default)]
struct Printed {
    ids: HashSet<String>,
    in_order: VecDeque<String>,
}

impl Printed {
    /// Whether it was printed before.
    fn add(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return true;
        }
        self.in_order.push_back(id.to_owned());
        if self.in_order.len() > REMEMBERED_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        false
    }
}

/// Prints traces as they come, until it is interrupted. What is not printed is told on standard error.
pub fn tail(options: &TailOptions) -> anyhow::Result<Ending> {
    let client = ApiClient::new(&options.server.address, options.server.tenant.as_deref())?;
    let limit = options.rate.div_ceil(LOOKS_PER_SECOND).to_string();
    let look = |position: Option<&str>| {
        let mut parameters = options.conditions.parameters();
        parameters.extend([("limit", limit.as_str()), ("spans", "1")]);
        parameters.extend(position.map(|position| ("after", position)));
        client
            .get("/api/v1/tail", &parameters)?
            .context("the server has no live tail; is it Tracehouse, and of this version?")
    };
    let mut tail =
        Tail { options, style: Style::of_terminal(io::stdout().is_terminal()), printed: Printed::default(), count: 0 };
    let mut position = tail.print(&look(None)?)?;
    if !options.server.json {
        print_heading(&mut io::stdout(), &tail.style)?;
    }
    let mut is_away = false;
    while options.count.is_none_or(|count| tail.count < count) {
        std::thread::sleep(Duration::from_secs(1) / LOOKS_PER_SECOND);
        match look(Some(&position)) {
            Ok(body) => {
                position = tail.print(&body)?;
                is_away = false;
            }
            Err(error) => {
                if !is_away {
                    writeln!(io::stderr(), "{error:#}; asking again")?;
                }
                is_away = true;
                std::thread::sleep(REST);
            }
        }
    }
    Ok(Ending::Done)
}

struct Tail<'a> {
    options: &'a TailOptions,
    style: Style,
    printed: Printed,
    count: u64,
}

impl Tail<'_> {
    /// Prints an answer, the oldest trace first; gives the next position.
    fn print(&mut self, body: &[u8]) -> anyhow::Result<String> {
        let unreadable = "the server's response is not that of a live tail";
        let answer: Answer<'_> = serde_json::from_slice(body).context(unreadable)?;
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        for told in answer.traces.iter().rev() {
            let trace: Trace = serde_json::from_str(told.get()).context(unreadable)?;
            if self.options.count.is_some_and(|count| self.count >= count) || self.printed.add(&trace.trace_id) {
                continue;
            }
            self.count += 1;
            match self.options.server.json {
                true => writeln!(stdout, "{}", told.get())?,
                false => print_trace(&mut stdout, &trace, &self.style)?,
            }
        }
        stdout.flush()?;
        let listed = answer.traces.len() as u64;
        if answer.traces_matched > listed {
            writeln!(io::stderr(), "{listed} of {} traces; --rate allows more", answer.traces_matched)?;
        }
        if let Some(reason) = answer.partial_reason {
            writeln!(io::stderr(), "not complete: {reason}")?;
        }
        Ok(answer.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traces_printed_last_are_remembered() {
        let mut printed = Printed::default();
        let id = |number: usize| format!("{number:032x}");
        assert!((0..REMEMBERED_MAX + 1).all(|number| !printed.add(&id(number))));
        assert!(printed.add(&id(REMEMBERED_MAX)) && printed.add(&id(1)));
        assert!(!printed.add(&id(0)), "the oldest was forgotten");
        assert_eq!((printed.ids.len(), printed.in_order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
    }
}
