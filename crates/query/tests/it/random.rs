//! Random queries over random spans: the engine must answer as the reference does.

use tracehouse_model::{Randomness, SystemRandomness};

use crate::corpus::{Layout, check, shop};
use crate::shop::trace_id;
use crate::wild::wild_spans_of;

const SEEDS: u64 = 6;
const QUERIES_PER_SEED: usize = 40;

/// Makes queries of a seed's chance.
struct Chance(SystemRandomness);

impl Chance {
    fn below(&self, limit: usize) -> usize {
        (self.0.next_u64() % limit as u64) as usize
    }

    fn of(&self, choices: &[&'static str]) -> &'static str {
        choices[self.below(choices.len())]
    }

    fn query(&self) -> String {
        let spans = self.pipeline();
        match self.below(3) {
            0 => format!("{spans} | {}", self.function()),
            _ => spans,
        }
    }

    fn pipeline(&self) -> String {
        let mut pipeline = self.spanset(2);
        for _ in 0..self.below(3) {
            pipeline.push_str(" | ");
            pipeline.push_str(&match self.below(4) {
                0 => format!("by({})", self.field()),
                1 => "coalesce()".to_owned(),
                2 => self.filter(),
                _ => format!(
                    "{} {} {}",
                    self.aggregate(),
                    self.of(&[">", "<=", "!="]),
                    self.of(&["1", "2.5", "10ms", "300"])
                ),
            });
        }
        pipeline
    }

    fn aggregate(&self) -> String {
        match self.below(3) {
            0 => "count()".to_owned(),
            _ => format!("{}({})", self.of(&["min", "max", "sum", "avg"]), self.number()),
        }
    }

    fn spanset(&self, depth: usize) -> String {
        if depth == 0 || self.below(2) == 0 {
            return self.filter();
        }
        const OPERATORS: [&str; 17] =
            ["&&", "||", ">", ">>", "<", "<<", "~", "!>", "!>>", "!<", "!<<", "!~", "&>", "&>>", "&<", "&<<", "&~"];
        format!("({} {} {})", self.spanset(depth - 1), self.of(&OPERATORS), self.spanset(depth - 1))
    }

    fn filter(&self) -> String {
        if self.below(6) == 0 { "{ }".to_owned() } else { format!("{{ {} }}", self.condition(2)) }
    }

    /// One that many spans satisfy, each by itself.
    fn plain_filter(&self) -> String {
        let filters = [
            "{ }",
            "{ kind = server }",
            "{ kind != client }",
            "{ status = error }",
            "{ duration > 1ms }",
            "{ .http.status != nil }",
            "{ resource.service.name != \"cart\" }",
            "{ name =~ \".*\" }",
            "{ span:parentID = nil }",
            "{ event:name != nil }",
        ];
        self.of(&filters).to_owned()
    }

    fn condition(&self, depth: usize) -> String {
        match self.below(if depth == 0 { 6 } else { 9 }) {
            0 => format!("{} {} {}", self.number(), self.of(&["=", "!=", "<", "<=", ">", ">="]), self.amount()),
            1 => format!("{} {} \"{}\"", self.text(), self.of(&["=", "!=", "<", ">="]), self.word()),
            2 => format!("{} {} \"{}.*\"", self.text(), self.of(&["=~", "!~"]), self.word()),
            3 => format!("{} {} nil", self.field(), self.of(&["=", "!="])),
            4 => self
                .of(&["status = error", "status != ok", "kind = server", "kind != client", ".cache.hit", "!.cache.hit"])
                .to_owned(),
            5 => self.id_condition(),
            6 => format!("!({})", self.condition(depth - 1)),
            _ => format!("({} {} {})", self.condition(depth - 1), self.of(&["&&", "||"]), self.condition(depth - 1)),
        }
    }

    /// Ids in all forms in which people write them, and what is none.
    fn id_condition(&self) -> String {
        const FIELDS: [&str; 6] = ["trace:id", "span:id", "span:parentID", "link:traceID", "link:spanID", ".parent.id"];
        let field = self.of(&FIELDS);
        let (trace, span) = (trace_id(1000 + self.below(40) as u64), 1 + self.below(40_000));
        let id = match self.below(8) {
            0..3 => trace.to_string(),
            3 => format!("{:x}", trace.as_u128()),
            4 => trace.to_string().to_uppercase(),
            5 => format!("{span:x}"),
            6 => format!("{span:016X}"),
            _ => self.of(&["5", "no id", "", "+5", "0x5", "00000000000000000000000000000000000005"]).to_owned(),
        };
        match self.below(5) {
            0 => format!("{field} {} {}", self.of(&["=", "!=", "<"]), self.of(&FIELDS)),
            1 => format!("\"{id}\" {} {field}", self.of(&["=", "!=", "<", ">="])),
            2 => format!("{field} {} [\"{id}\", \"{trace}\"]", self.of(&["=", "!="])),
            3 => format!("{field} {} \"{}.*\"", self.of(&["=~", "!~"]), &trace.to_string()[..2]),
            _ => format!("{field} {} \"{id}\"", self.of(&["=", "!=", "<", ">="])),
        }
    }

    fn number(&self) -> String {
        const NUMBERS: [&str; 15] = [
            "event.attempt",
            "event.delays",
            "event:timeSinceStart",
            "link.weight",
            ".levels",
            "duration",
            ".http.status",
            ".ratio",
            ".code",
            "resource.replicas",
            "childCount",
            "traceDuration",
            "nestedSetParent",
            "instrumentation.scope.level",
            ".big",
        ];
        match self.below(6) {
            0 => format!(
                "({} {} {})",
                self.of(&NUMBERS),
                self.of(&["+", "-", "*", "/", "%", "^"]),
                self.of(&["2", "0.5", ".ratio", "duration", "event.attempt", ".levels"])
            ),
            1 => format!("-{}", self.of(&NUMBERS)),
            _ => self.of(&NUMBERS).to_owned(),
        }
    }

    fn amount(&self) -> &'static str {
        self.of(&["0", "1", "2", "7", "404", "1ms", "200ms", "-1", "0.5", "7.5", "9223372036854775807"])
    }

    fn text(&self) -> &'static str {
        self.of(&[
            "name",
            "resource.service.name",
            ".http.route",
            "statusMessage",
            ".code",
            ".both",
            ".tags",
            "event:name",
            "event.exception.type",
            "rootName",
            "parent.service.name",
            "instrumentation:name",
            "resource.k8s.pod.name",
        ])
    }

    fn word(&self) -> &'static str {
        self.of(&[
            "SELECT",
            "cart",
            "gateway",
            "/route/1",
            "deadline exceeded",
            "x",
            "7",
            "from span",
            "a",
            "exception",
            "pod-2",
            "http",
        ])
    }

    fn field(&self) -> &'static str {
        self.of(&[
            "name",
            "kind",
            "status",
            "resource.service.name",
            ".http.status",
            ".code",
            ".cache.hit",
            ".both",
            ".tags",
            "childCount",
            "rootName",
            "resource.replicas",
            ".no.such.attribute",
            "parent.http.status",
        ])
    }

    fn function(&self) -> String {
        let function = match self.below(8) {
            0 => "rate()".to_owned(),
            1 => "count_over_time()".to_owned(),
            2 => format!(
                "quantile_over_time({}, .5, .9)",
                self.of(&["duration", ".ratio", ".http.status", "event.attempt"])
            ),
            3 => format!("histogram_over_time({})", self.of(&["duration", ".http.status"])),
            _ => format!(
                "{}({})",
                self.of(&["min_over_time", "max_over_time", "avg_over_time", "sum_over_time"]),
                self.of(&[
                    "duration",
                    ".ratio",
                    ".http.status",
                    ".code",
                    "childCount",
                    "resource.replicas",
                    "event.attempt"
                ])
            ),
        };
        match self.below(3) {
            0 => function,
            1 => format!("{function} by ({})", self.field()),
            _ => format!("{function} by ({}, {})", self.field(), self.of(&["kind", "statusMessage", ".user.id"])),
        }
    }
}

/// Makes a query of a seed's chance.
type MakeQuery = fn(&Chance) -> String;

async fn check_all(seeds: u64, make: MakeQuery) {
    let mut failures = Vec::new();
    for seed in 1..=seeds {
        let (batches, spans) = wild_spans_of(seed);
        let chance = Chance(SystemRandomness::from_seed(seed));
        let queries: Vec<String> = (0..QUERIES_PER_SEED).map(|_| make(&chance)).collect();
        for layout in [Layout::Memory, Layout::Files, Layout::Mixed] {
            let shop = shop(&batches, layout).await;
            for query in &queries {
                if let Err(difference) = check(&shop, &spans, query).await {
                    failures.push(format!("seed {seed}, {layout:?}: {query}\n    {difference}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} differences\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn random_queries_have_the_answers_of_the_reference() {
    check_all(SEEDS, Chance::query).await;
}

/// Series over relations between spans are computed from columns where a trace lies in one row group.
#[tokio::test(flavor = "multi_thread")]
async fn random_series_over_structure_have_the_answers_of_the_reference() {
    check_all(2, |chance| {
        let operators = [">", ">>", "<", "<<", "!>", "!>>", "!<", "!<<", "&>", "&>>", "&<", "&<<", "&&", "||"];
        let side = |depth| if chance.below(3) == 0 { chance.spanset(depth) } else { chance.plain_filter() };
        let spans = format!("{} {} {}", side(1), chance.of(&operators), side(1));
        format!("{spans} | {}", chance.function())
    })
    .await;
}
