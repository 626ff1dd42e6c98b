//! Names of operations with their kinds.

use tracehouse_model::{Caller, kind};
use tracehouse_query::{Among, Listing};

use crate::problem::Problem;
use crate::state::ApiState;

pub(super) struct Operation {
    pub(super) name: String,
    /// Empty for spans without one.
    pub(super) span_kind: &'static str,
}

/// The operations of a service or of all, of one kind (a name of one) or, if that is empty, of all.
pub(super) async fn operations(
    state: &ApiState,
    caller: &Caller,
    service: Option<&str>,
    span_kind: &str,
) -> Result<Listing<Operation>, Problem> {
    let asked = kind::from_name(span_kind);
    if asked.is_none() && !span_kind.is_empty() {
        let expected = "one of internal, server, client, producer, consumer";
        return Err(Problem::parameter("spanKind", span_kind, expected));
    }
    let counted = state.answers.operations_by_kind(caller, service, &Among::default()).await?;
    let shown = |known: u8| if known == kind::UNSPECIFIED { "" } else { kind::name(known) };
    let of_kind = counted.items.into_iter().filter(|operation| asked.is_none_or(|asked| asked == operation.kind));
    let items = of_kind.map(|operation| Operation { name: operation.name, span_kind: shown(operation.kind) });
    let mut found =
        Listing { items: items.collect(), complete: counted.complete, partial_reason: counted.partial_reason };
    if asked.is_none() && !found.complete {
        // Lists are quicker than counts: they have the names of which the kind is not known.
        let listed = state.answers.operations(caller, service, &Among::default()).await?;
        let unknown = |name: &String| found.items.iter().all(|operation: &Operation| operation.name != *name);
        let more: Vec<String> = listed.items.into_iter().filter(unknown).collect();
        found.items.extend(more.into_iter().map(|name| Operation { name, span_kind: "" }));
        found.items.sort_by(|one, other| one.name.cmp(&other.name));
    }
    Ok(found)
}
