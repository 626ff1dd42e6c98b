//! `tracehouse tail`: prints matching traces as they come.

use std::collections::{HashSet, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use serde::Deserialize;
use serde_json::value::RawValue;
use tracehouse_model::{Clock, SystemClock};

use super::http::ApiClient;
use super::search_table::{Trace, print_heading, print_trace};
use super::text::Style;
use super::{Conditions, ServerOptions};
use crate::Ending;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(500);
/// A server that does not answer is asked again after this.
const REST: Duration = Duration::from_secs(2);
/// A trace of which more spans come is not printed again, as long as it is among the last so many.
const REMEMBERED_MAX: usize = 10_000;

/// A trace is printed when the first span comes that satisfies all conditions, as far as it has come by then.
#[derive(Args, Clone, Debug)]
pub struct TailOptions {
    #[command(flatten)]
    pub conditions: Conditions,
    /// Maximum traces to print in a second; how many more came is told.
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

/// How many traces may be printed now: what was not used up of the last second may be, so that what comes in one batch is whole.
struct Allowance {
    per_second: f64,
    left: f64,
    /// When that was reckoned.
    at: Duration,
}

impl Allowance {
    fn of(rate: u32, at: Duration) -> Self {
        Self { per_second: f64::from(rate), left: f64::from(rate), at }
    }

    /// How long to wait before the next look: until at least one may be printed.
    fn rest(&self) -> Duration {
        LOOK.max(Duration::from_secs_f64(((1.0 - self.left) / self.per_second).max(0.0)))
    }

    fn now(&mut self, now: Duration) -> u32 {
        let more = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        (self.left, self.at) = ((self.left + more).min(self.per_second.max(1.0)), now);
        (self.left as u32).max(1)
    }

    fn use_up(&mut self, traces: u32) {
        self.left -= f64::from(traces);
    }
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
    let clock = SystemClock::default();
    let mut allowance = Allowance::of(options.rate, clock.monotonic());
    let look = |position: Option<&str>, limit: u32| {
        let (mut parameters, limit) = (options.conditions.parameters(), limit.to_string());
        parameters.extend([("limit", limit.as_str()), ("spans", "1"), ("targets", "true")]);
        parameters.extend(position.map(|position| ("after", position)));
        client
            .get("/api/v1/tail", &parameters)?
            .context("the server has no live tail; is it Tracehouse, and of this version?")
    };
    let mut tail =
        Tail { options, style: Style::of_terminal(io::stdout().is_terminal()), printed: Printed::default(), count: 0 };
    let mut position = tail.print(&look(None, 1)?)?.0;
    if !options.server.json {
        print_heading(&mut io::stdout(), &tail.style)?;
    }
    let mut is_away = false;
    while options.count.is_none_or(|count| tail.count < count) {
        std::thread::sleep(allowance.rest());
        match look(Some(&position), allowance.now(clock.monotonic())) {
            Ok(body) => {
                let (next, listed) = tail.print(&body)?;
                allowance.use_up(listed);
                position = next;
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
    /// Prints an answer, the oldest trace first; gives the next position, and how many traces were listed.
    fn print(&mut self, body: &[u8]) -> anyhow::Result<(String, u32)> {
        let unreadable = "the server's response is not that of a live tail; does the URL lead to Tracehouse itself?";
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
        Ok((answer.position, answer.traces.len() as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_may_use_up_a_second() {
        let mut allowance = Allowance::of(20, Duration::ZERO);
        assert_eq!(allowance.now(Duration::ZERO), 20);
        allowance.use_up(18);
        assert_eq!((allowance.now(LOOK), allowance.rest()), (12, LOOK));
        allowance.use_up(12);
        assert_eq!(allowance.now(2 * LOOK), 10);
        assert_eq!(allowance.now(100 * LOOK), 20, "what was left is not saved up");
        let mut slow = Allowance::of(1, Duration::ZERO);
        assert_eq!(slow.now(Duration::ZERO), 1);
        slow.use_up(1);
        assert_eq!(slow.rest(), Duration::from_secs(1));
    }

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
