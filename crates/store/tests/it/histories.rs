//! Histories of a store: what is appended, sent again and flushed, in arbitrary order.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tracehouse_model::Span;

use crate::spans::{Key, attributes, by_key, give_owners, key_of, spans};

/// The tenants, batches and flushes of one history of a store.
#[derive(Clone)]
pub(crate) struct History {
    pub(crate) steps: Vec<Step>,
}

impl fmt::Debug for History {
    /// A line for each step: a failing case has thousands of fields.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(formatter, "{step:?}"))
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Spans that one tenant sends as one batch.
    Append {
        tenant: usize,
        spans: Vec<Span>,
    },
    /// A batch that was sent before, counted from the first, comes again.
    Redeliver(Index),
    Flush,
}

impl History {
    /// What each tenant must find in the end.
    pub(crate) fn expected(&self, tenant: usize) -> BTreeMap<Key, Span> {
        let appended = self.steps.iter().filter_map(|step| match step {
            Step::Append { tenant: of, spans } if *of == tenant => Some(spans),
            _ => None,
        });
        by_key(appended.flatten())
    }
}

pub(crate) const TENANTS: usize = 3;

pub(crate) fn histories() -> impl Strategy<Value = History> {
    let owners = (vec(attributes(), 1..4), vec(attributes(), 1..4));
    let append = (0..TENANTS, vec(spans(), 1..40)).prop_map(|(tenant, spans)| Step::Append { tenant, spans });
    let step = prop_oneof![
        6 => append,
        1 => any::<Index>().prop_map(Step::Redeliver),
        2 => Just(Step::Flush),
    ];
    (owners, vec(step, 1..10)).prop_map(|((resources, scopes), mut steps)| {
        let mut known: BTreeSet<(usize, Key)> = BTreeSet::new();
        for step in &mut steps {
            let Step::Append { tenant, spans } = step else { continue };
            // A span with the key of another one would be its copy.
            spans.retain(|span| known.insert((*tenant, key_of(span))));
            give_owners(spans, &resources, &scopes);
        }
        History { steps }
    })
}
