//! Walking the steps of the tables.

use super::spans::{Failure, Open, Opening};
use super::{Problem, Simulation};
use crate::attribute::text;
use crate::latency::Latency;
use crate::shop::people::{Personal, PersonalAttribute};
use crate::shop::scopes::Library;
use crate::shop::{Language, Retry, Service, Step, stores::Query};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rand::Rng;

/// Where time stands after something was done, and whether it failed.
pub(super) struct Ran {
    pub now: u64,
    pub failure: Option<Failure>,
}

impl Ran {
    pub(super) fn well(now: u64) -> Ran {
        Ran { now, failure: None }
    }
}

/// Branches of a parallel step start this far apart, as tasks are spawned.
const SPAWN_NANOS: std::ops::Range<u64> = 8_000..45_000;
/// Between two steps a process does a little that no span shows.
const BETWEEN_NANOS: std::ops::Range<u64> = 6_000..70_000;

impl Simulation<'_> {
    /// Does the steps in order until one fails.
    pub(super) fn steps(&mut self, open: &mut Open, steps: &'static [Step], mut now: u64) -> Ran {
        for step in steps {
            now += self.rng.random_range(BETWEEN_NANOS);
            let ran = self.step(open, step, now);
            now = ran.now;
            if ran.failure.is_some() {
                return ran;
            }
        }
        Ran::well(now)
    }

    fn step(&mut self, open: &mut Open, step: &'static Step, now: u64) -> Ran {
        match step {
            Step::Work(latency) => Ran::well(now + self.draw(*latency)),
            Step::Within(name, steps) => self.within(open, name, steps, now),
            Step::Wait(name, share, latency) => self.wait(open, name, *share, *latency, now),
            Step::Call(endpoint) => self.call(open, endpoint, 0, now),
            Step::CallRetrying(endpoint, retry) => self.call_retrying(open, endpoint, *retry, now),
            Step::Query(query) => Ran::well(self.query(open, query, now)),
            Step::QueryPerRow(query, min, max) => self.query_per_row(open, query, *min..=*max, now),
            Step::External(external) => self.external(open, external, 0, now),
            Step::ExternalRetrying(external, retry) => {
                let (_, ran) = self.retrying(*retry, now, |it, attempt, now| it.external(open, external, attempt, now));
                ran
            }
            Step::Parallel(branches) => self.parallel(open, branches, now),
            Step::Sequence(steps) => self.steps(open, steps, now),
            Step::Sometimes(share, steps) => {
                if self.rng.random_bool(*share) {
                    self.steps(open, steps, now)
                } else {
                    Ran::well(now)
                }
            }
            Step::Repeat(min, max, steps) => self.repeat(open, *min..=*max, steps, now),
            Step::Tolerate(steps) => self.tolerate(open, steps, now),
            Step::Publish(topic, min, max) => {
                let messages = self.rng.random_range(*min..=*max);
                Ran::well(self.publish(open, topic, messages, now))
            }
            Step::Chat(model) => Ran::well(self.chat(open, model, now)),
            Step::Personal(attribute) => {
                self.personal(open, attribute);
                Ran::well(now)
            }
            Step::Note(name) => {
                open.event(name, now, Vec::new());
                Ran::well(now)
            }
        }
    }

    pub(super) fn draw(&mut self, latency: Latency) -> u64 {
        latency.sample(&mut self.rng, self.load)
    }

    fn within(&mut self, parent: &mut Open, name: &'static str, steps: &'static [Step], now: u64) -> Ran {
        let opening = Opening { name: name.to_owned(), kind: SpanKind::Internal, library: Library::Own, at: now };
        let mut open = self.open_child(parent, opening);
        self.describe_code(&mut open, name);
        let ran = self.steps(&mut open, steps, now);
        if let Some(failure) = &ran.failure
            && failure.http_status >= 500
        {
            open.fail(failure.message.clone());
        }
        self.close(open, ran.now);
        ran
    }

    fn describe_code(&self, open: &mut Open, name: &'static str) {
        let service = self.world.fleet.member(open.member).service;
        let package = service.name.replace('-', "");
        match service.language {
            Language::Java => open.attributes([text("code.function.name", format!("goods.aurora.{package}.{name}"))]),
            Language::Python if name.starts_with("execute_tool") => {
                let tool = name.trim_start_matches("execute_tool ");
                open.attributes([
                    text("gen_ai.operation.name", "execute_tool"),
                    text("gen_ai.tool.name", tool),
                    text("gen_ai.tool.type", "function"),
                ]);
            }
            _ => {}
        }
    }

    fn wait(&mut self, parent: &mut Open, name: &'static str, share: f64, latency: Latency, now: u64) -> Ran {
        if !self.rng.random_bool(share) {
            return Ran::well(now);
        }
        let opening = Opening { name: name.to_owned(), kind: SpanKind::Internal, library: Library::Own, at: now };
        let open = self.open_child(parent, opening);
        let end = now + self.draw(latency);
        self.close(open, end);
        Ran::well(end)
    }

    fn parallel(&mut self, open: &mut Open, branches: &'static [Step], now: u64) -> Ran {
        let mut start = now;
        let mut joined = Ran::well(now);
        for branch in branches {
            start += self.rng.random_range(SPAWN_NANOS);
            let ran = self.step(open, branch, start);
            joined.now = joined.now.max(ran.now);
            joined.failure = joined.failure.or(ran.failure);
        }
        joined
    }

    fn repeat(
        &mut self,
        open: &mut Open,
        times: std::ops::RangeInclusive<u32>,
        steps: &'static [Step],
        mut now: u64,
    ) -> Ran {
        for _ in 0..self.rng.random_range(times) {
            let ran = self.steps(open, steps, now);
            now = ran.now;
            if ran.failure.is_some() {
                return ran;
            }
        }
        Ran::well(now)
    }

    fn tolerate(&mut self, open: &mut Open, steps: &'static [Step], now: u64) -> Ran {
        let ran = self.steps(open, steps, now);
        if let Some(failure) = ran.failure {
            let attributes = vec![text("error.type", failure.error_type), text("error.message", failure.message)];
            open.event("degraded", ran.now, attributes);
        }
        Ran::well(ran.now)
    }

    fn query_per_row(
        &mut self,
        open: &mut Open,
        query: &'static Query,
        rows: std::ops::RangeInclusive<u32>,
        mut now: u64,
    ) -> Ran {
        let rows = self.rng.random_range(rows);
        for _ in 0..rows {
            now = self.query(open, query, now) + self.rng.random_range(BETWEEN_NANOS);
        }
        self.inject(Problem::NPlusOne, open.context.trace_id, "", u64::from(rows));
        Ran::well(now)
    }

    fn call_retrying(
        &mut self,
        open: &mut Open,
        endpoint: &'static crate::shop::Endpoint,
        retry: Retry,
        now: u64,
    ) -> Ran {
        let (attempts, ran) = self.retrying(retry, now, |it, attempt, now| it.call(open, endpoint, attempt, now));
        if attempts >= crate::problems::STORM_ATTEMPTS_MIN {
            let callee = Service::of(endpoint.service).name;
            self.inject(Problem::RetryStorm, open.context.trace_id, callee, u64::from(attempts - 1));
        }
        ran
    }

    /// Tries until it works, the failure is final, or the attempts are used up. Returns the attempts made.
    fn retrying(
        &mut self,
        retry: Retry,
        mut now: u64,
        mut attempt_once: impl FnMut(&mut Self, u32, u64) -> Ran,
    ) -> (u32, Ran) {
        let mut attempt = 0;
        loop {
            let ran = attempt_once(self, attempt, now);
            attempt += 1;
            let worth_another_try = ran.failure.as_ref().is_some_and(|failure| failure.http_status >= 500);
            if !worth_another_try || attempt >= retry.attempts_max {
                return (attempt, ran);
            }
            now = ran.now + (self.draw(retry.backoff) << (attempt - 1));
        }
    }

    fn personal(&mut self, open: &mut Open, attribute: &'static PersonalAttribute) {
        if !self.rng.random_bool(attribute.share) {
            return;
        }
        let value = match attribute.kind {
            Personal::Email => self.shopper.email.clone(),
            Personal::CardNumber => self.shopper.card_number.to_owned(),
        };
        open.attributes([text(attribute.key, value)]);
        self.inject(Problem::PersonalData, open.context.trace_id, attribute.key, 1);
    }
}
