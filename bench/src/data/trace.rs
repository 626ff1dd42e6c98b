//! The shape of one trace: who calls whom, for how long, and what fails.
//!
//! A trace is grown node by node up to its wanted size, then timed twice over: durations from the leaves up (own work
//! plus children), start times from the root down, so that children lie inside their parents as in real life.

use rand::Rng;
use rand::rngs::SmallRng;

use super::shop::{Protocol, SERVICES};

/// What a span stands for; it decides kind, name, and attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    HttpServer,
    HttpClient,
    RpcServer,
    RpcClient,
    Database,
    Cache,
    Producer,
    Consumer,
    Internal,
}

/// One span to be, without its attributes.
pub(crate) struct Node {
    pub(crate) parent: Option<u32>,
    pub(crate) role: Role,
    pub(crate) service: usize,
    /// Which of the service's instances does it.
    pub(crate) instance: u8,
    /// The service called, for client spans; the node's own otherwise.
    pub(crate) peer: usize,
    /// Index of the operation, table, or function, by role.
    pub(crate) operation: usize,
    /// The product, order, or user it is about.
    pub(crate) entity: u64,
    /// Nanoseconds from the trace's beginning.
    pub(crate) start_ns: u64,
    pub(crate) duration_ns: u64,
    pub(crate) failed: bool,
    own_ns: u64,
    children_parallel: bool,
}

const SPANS_PER_TRACE_MAX: usize = 200;

/// A sample of a log-normal distribution with this median, in the median's unit.
pub(crate) fn log_normal(rng: &mut SmallRng, median: f64, sigma: f64) -> f64 {
    // Box–Muller; 1 - u keeps the logarithm's argument above zero.
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    let normal = radius * (std::f64::consts::TAU * rng.random::<f64>()).cos();
    median * (sigma * normal).exp()
}

/// Grows a trace of 1 to 200 spans, 32 on average.
pub(crate) fn grow(rng: &mut SmallRng) -> Vec<Node> {
    let wanted = (log_normal(rng, 22.5, 0.95) as usize).clamp(1, SPANS_PER_TRACE_MAX);
    let root_service = if rng.random_bool(0.85) { 0 } else { rng.random_range(0..SERVICES.len()) };
    let entity = entity(rng);
    let instance = rng.random_range(0..SERVICES[root_service].instances);
    let root = node(rng, None, server_role(root_service), root_service, instance, root_service, entity);
    let mut growth = Growth { rng, wanted, nodes: Vec::with_capacity(wanted + 8), frontier: Vec::new() };
    growth.visit(root);
    while growth.nodes.len() < wanted {
        growth.go_on();
    }
    let Growth { mut nodes, .. } = growth;
    nodes.truncate(wanted);
    fail_some(rng, &mut nodes);
    time(rng, &mut nodes);
    nodes
}

struct Growth<'a> {
    rng: &'a mut SmallRng,
    wanted: usize,
    nodes: Vec<Node>,
    /// Nodes that may have further children.
    frontier: Vec<u32>,
}

impl Growth<'_> {
    /// A service takes a request up: a stretch of its own work follows at once.
    fn visit(&mut self, server: Node) {
        let index = self.nodes.len() as u32;
        self.nodes.push(server);
        self.frontier.push(index);
        self.work(index, 8);
    }

    fn go_on(&mut self) {
        // The newest are preferred, which makes traces deep as well as wide.
        let newest = self.frontier.len().saturating_sub(3);
        let from = if self.rng.random_bool(0.6) { newest } else { 0 };
        let parent = self.frontier[self.rng.random_range(from..self.frontier.len())];
        let service = self.nodes[parent as usize].service;
        if SERVICES[service].calls.is_empty() || self.rng.random_bool(0.25) {
            self.work(parent, 5);
        } else if self.rng.random_bool(0.1) {
            self.publish(parent);
        } else {
            self.call(parent);
        }
    }

    fn child(&mut self, parent: u32, role: Role, peer: Option<usize>) -> u32 {
        let (service, instance, mut subject) = {
            let parent = &self.nodes[parent as usize];
            (parent.service, parent.instance, parent.entity)
        };
        if self.rng.random_bool(0.2) {
            subject = entity(self.rng);
        }
        let child = node(self.rng, Some(parent), role, service, instance, peer.unwrap_or(service), subject);
        self.nodes.push(child);
        self.nodes.len() as u32 - 1
    }

    /// Functions, queries, and cache accesses within the parent's service.
    fn work(&mut self, parent: u32, steps_max: usize) {
        let mut within = parent;
        for _ in 0..self.rng.random_range(1..=steps_max) {
            let role = match self.rng.random_range(0..100) {
                0..46 => Role::Database,
                46..62 => Role::Cache,
                _ => Role::Internal,
            };
            let index = self.child(within, role, None);
            if role == Role::Internal {
                self.frontier.push(index);
                within = if self.rng.random_bool(0.5) { index } else { parent };
            }
        }
    }

    fn call(&mut self, parent: u32) {
        let calls = SERVICES[self.nodes[parent as usize].service].calls;
        let callee = calls[self.rng.random_range(0..calls.len())];
        let (client, server) = match SERVICES[callee].protocol {
            Protocol::Http => (Role::HttpClient, Role::HttpServer),
            Protocol::Grpc(_) => (Role::RpcClient, Role::RpcServer),
        };
        let index = self.child(parent, client, Some(callee));
        let (operation, entity) = (self.nodes[index as usize].operation, self.nodes[index as usize].entity);
        let instance = self.rng.random_range(0..SERVICES[callee].instances);
        let mut called = node(self.rng, Some(index), server, callee, instance, callee, entity);
        called.operation = operation;
        self.visit(called);
    }

    fn publish(&mut self, parent: u32) {
        let index = self.child(parent, Role::Producer, None);
        let producer = &self.nodes[index as usize];
        let (service, entity) = (producer.service, producer.entity);
        if self.nodes.len() < self.wanted && self.rng.random_bool(0.6) {
            let consumer = self.rng.random_range(0..SERVICES.len());
            let instance = self.rng.random_range(0..SERVICES[consumer].instances);
            // The peer of a consumer is the service whose topic it reads.
            let consumer = node(self.rng, Some(index), Role::Consumer, consumer, instance, service, entity);
            self.visit(consumer);
        }
    }
}

fn server_role(service: usize) -> Role {
    match SERVICES[service].protocol {
        Protocol::Http => Role::HttpServer,
        Protocol::Grpc(_) => Role::RpcServer,
    }
}

/// Ids of products, orders, users: some much more popular than others.
fn entity(rng: &mut SmallRng) -> u64 {
    let spread = rng.random::<f64>();
    (spread * spread * spread * 40_000_000.0) as u64 + 1000
}

fn node(
    rng: &mut SmallRng,
    parent: Option<u32>,
    role: Role,
    service: usize,
    instance: u8,
    peer: usize,
    entity: u64,
) -> Node {
    let choices = match role {
        Role::HttpServer | Role::HttpClient | Role::RpcServer | Role::RpcClient => SERVICES[peer].operations.len(),
        Role::Database | Role::Cache => SERVICES[service].tables.len() * 4,
        Role::Internal => SERVICES[service].functions.len(),
        Role::Producer | Role::Consumer => 1,
    };
    // The square favours the first operations, as traffic does.
    let popularity = rng.random::<f64>();
    let operation = ((popularity * popularity) * choices as f64) as usize;
    let (median_ms, sigma) = match role {
        Role::HttpServer | Role::RpcServer => (1.1, 0.8),
        Role::HttpClient | Role::RpcClient => (0.45, 0.7),
        Role::Database => (2.2, 1.0),
        Role::Cache => (0.28, 0.6),
        Role::Internal => (0.6, 1.1),
        Role::Producer => (0.8, 0.7),
        Role::Consumer => (4.0, 0.9),
    };
    Node {
        parent,
        role,
        service,
        instance,
        peer,
        operation,
        entity,
        start_ns: 0,
        duration_ns: 0,
        failed: false,
        own_ns: (log_normal(rng, median_ms, sigma) * 1e6) as u64 + 1000,
        children_parallel: rng.random_bool(0.2),
    }
}

/// Lets one node in some traces fail, and most of its ancestors with it.
fn fail_some(rng: &mut SmallRng, nodes: &mut [Node]) {
    if !rng.random_bool(0.07) {
        return;
    }
    let mut failing = rng.random_range(0..nodes.len());
    loop {
        nodes[failing].failed = true;
        match nodes[failing].parent {
            Some(parent) if rng.random_bool(0.75) => failing = parent as usize,
            _ => return,
        }
    }
}

fn time(rng: &mut SmallRng, nodes: &mut [Node]) {
    let mut waits = vec![0u64; nodes.len()];
    let mut children = vec![0u32; nodes.len()];
    // Children come after their parents in the vector, so one pass backwards sees every child before its parent.
    for index in (0..nodes.len()).rev() {
        nodes[index].duration_ns = nodes[index].own_ns + waits[index];
        if let (Some(parent), false) = (nodes[index].parent, nodes[index].role == Role::Consumer) {
            let parent = parent as usize;
            let duration_ns = nodes[index].duration_ns;
            let parallel = nodes[parent].children_parallel;
            waits[parent] = if parallel { waits[parent].max(duration_ns) } else { waits[parent] + duration_ns };
            children[parent] += 1;
        }
    }
    // Where the next child of a node may start.
    let mut cursors = vec![0u64; nodes.len()];
    for index in 0..nodes.len() {
        if let Some(parent) = nodes[index].parent.map(|parent| parent as usize) {
            let gap_ns = nodes[parent].own_ns / u64::from(children[parent] + 1);
            nodes[index].start_ns = if nodes[index].role == Role::Consumer {
                // A queue lies between: the consumer starts some time after its producer ended.
                let lag_ns = log_normal(rng, 9e6, 0.8) as u64;
                nodes[parent].start_ns + nodes[parent].duration_ns + lag_ns
            } else if nodes[parent].children_parallel {
                nodes[parent].start_ns + gap_ns.min(rng.random_range(0..=gap_ns))
            } else {
                cursors[parent] + gap_ns
            };
            cursors[parent] = nodes[index].start_ns + nodes[index].duration_ns;
        }
        cursors[index] = nodes[index].start_ns;
    }
}
