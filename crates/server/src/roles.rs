//! What a Tracehouse does, as roles. This table is the one place that says which roles there are, what each depends on,
//! and how it starts in one process with the others.

use futures::future::BoxFuture;

use crate::node::Node;

/// One thing that a Tracehouse does.
pub struct Role {
    pub name: &'static str,
    /// For people.
    pub does: &'static str,
    /// Roles that must run for this one to work; they stand above it in the table.
    pub depends_on: &'static [&'static str],
    /// Whether a process may do without it.
    pub optional: bool,
    pub(crate) start: Start,
}

/// Starts a role on a node.
type StartStep = for<'a, 'b> fn(&'a mut Node<'b>) -> BoxFuture<'a, anyhow::Result<()>>;

/// How a role starts in a process.
pub(crate) enum Start {
    /// By a step of its own, after the roles it depends on.
    Step(StartStep),
    /// Together with another role.
    With(#[expect(dead_code, reason = "the table is also for reading")] &'static str),
}

/// All roles, in the order in which they start. They stop in reverse.
pub const ROLES: &[Role] = &[
    Role {
        name: "catalogue",
        does: "knows which files hold what",
        depends_on: &[],
        optional: false,
        start: Start::Step(|node| Box::pin(node.start_catalogue())),
    },
    Role {
        name: "wal",
        does: "makes acknowledged spans durable",
        depends_on: &["catalogue"],
        optional: false,
        start: Start::With("store"),
    },
    Role {
        name: "keeper",
        does: "compacts files, deletes them by age and disk budget",
        depends_on: &["catalogue"],
        optional: false,
        start: Start::With("store"),
    },
    Role {
        name: "store",
        does: "holds new spans in memory and flushes them to Parquet files",
        depends_on: &["catalogue", "wal", "keeper"],
        optional: false,
        start: Start::Step(|node| Box::pin(node.start_store())),
    },
    Role {
        name: "query",
        does: "answers questions about traces; serves the APIs and the user interface",
        depends_on: &["catalogue", "store"],
        optional: false,
        start: Start::Step(|node| Box::pin(node.start_query())),
    },
    Role {
        name: "gateway",
        does: "receives spans, checks them, hands them to the write-ahead log",
        depends_on: &["wal", "store"],
        optional: true,
        start: Start::Step(|node| Box::pin(node.start_gateway())),
    },
];

/// Names that roles had once, and those they have now: configurations may still say the former.
const FORMER_NAMES: [(&str, &str); 1] = [("log", "wal")];

/// Whether a process can run these roles together; if not, what to change.
pub fn check(chosen: &[String]) -> Result<(), String> {
    let known = || ROLES.iter().map(|role| role.name).collect::<Vec<_>>().join(", ");
    for name in chosen.iter().map(|name| current_name(name)) {
        let Some(role) = ROLES.iter().find(|role| role.name == name) else {
            return Err(format!("roles: there is no role {name:?}; the roles are {}", known()));
        };
        if let Some(missing) = role.depends_on.iter().find(|needed| !runs(chosen, needed)) {
            return Err(format!("roles: {name} needs {missing}; add it"));
        }
    }
    match ROLES.iter().find(|role| !role.optional && !runs(chosen, role.name)) {
        Some(role) => Err(format!("roles: every process needs {} ({}) for now; add it", role.name, role.does)),
        None => Ok(()),
    }
}

fn runs(chosen: &[String], name: &str) -> bool {
    chosen.iter().any(|chosen| current_name(chosen) == name)
}

fn current_name(name: &str) -> &str {
    FORMER_NAMES.iter().find(|(former, _)| *former == name).map_or(name, |(_, current)| current)
}
