//! Which service calls which, counted in the traces of a range of time.

use std::collections::BTreeMap;

use tracehouse_model::{Caller, status};
use tracehouse_query::{ParentRow, QueryError, SearchRequest, Selects, Trace};

use crate::params::{Parameters, TimeRange};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::whole;

/// The newest traces are counted, so many at most: each is read whole.
const TRACES_MAX: usize = 500;
const DAY_NANOS: i64 = 86_400_000_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Calls {
    pub(crate) count: u64,
    /// Calls whose span at the called service is an error.
    pub(crate) errors: u64,
}

#[derive(Default)]
pub(crate) struct Dependencies {
    /// By calling and called service.
    pub(crate) links: BTreeMap<(String, String), Calls>,
    pub(crate) partial_reason: Option<String>,
}

/// `endTs` and `lookback` in milliseconds; a day until now if they are left out. The end is meant whole.
pub(crate) fn time_range(parameters: &Parameters, now_unix_nanos: i64) -> Result<TimeRange, Problem> {
    let millis = |name: &str| {
        let parse = |text: &str| text.parse::<i64>().ok().filter(|millis| *millis >= 0)?.checked_mul(1_000_000);
        parameters.parsed(name, parse, "milliseconds, such as 86400000")
    };
    let end = millis("endTs")?.unwrap_or(now_unix_nanos);
    let start = end.saturating_sub(millis("lookback")?.unwrap_or(DAY_NANOS));
    TimeRange::new(Some(start), Some(end.saturating_add(1_000_000)))
}

pub(crate) async fn dependencies(
    state: &ApiState,
    caller: &Caller,
    range: TimeRange,
) -> Result<Dependencies, QueryError> {
    let request = SearchRequest {
        start_unix_nanos: range.start_unix_nanos,
        end_unix_nanos: range.end_unix_nanos,
        // As the original does.
        selects: Selects::Starting,
        limit: TRACES_MAX,
        ..SearchRequest::default()
    };
    let mut whole = whole::search(state, caller, request).await?;
    if whole.traces.len() == TRACES_MAX {
        whole.partial.push(format!("the newest {TRACES_MAX} traces of the time range, of at least as many"));
    }
    let mut links = BTreeMap::new();
    for trace in &whole.traces {
        count(&mut links, trace);
    }
    Ok(Dependencies { links, partial_reason: whole.partial_reason() })
}

/// A call is a span whose parent is a span of another service. Spans without a service are left out.
fn count(links: &mut BTreeMap<(String, String), Calls>, trace: &Trace) {
    let spans = &trace.spans;
    for (row, parent) in trace.parent.iter().enumerate() {
        let ParentRow::Row(parent) = parent else { continue };
        let name = |row: usize| spans.strings.get(spans.service_name(row));
        let (parent, child) = (name(*parent as usize), name(row));
        if parent == child || parent.is_empty() || child.is_empty() {
            continue;
        }
        let calls = links.entry((parent.to_owned(), child.to_owned())).or_default();
        calls.count += 1;
        calls.errors += u64::from(spans.status_code[row] == status::ERROR);
    }
}
