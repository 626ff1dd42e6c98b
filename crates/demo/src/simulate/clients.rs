//! Calls to what sends no spans itself: stores, third parties, a language model.

use super::Simulation;
use super::spans::{Failure, Open, Opening};
use super::steps::Ran;
use super::wire::{http_client_attributes, status_attribute};
use crate::attribute::{double, int, text, texts};
use crate::problems::{Problem, REFUSED_ATTEMPT_SHARE};
use crate::shop::Conventions;
use crate::shop::scopes::Library;
use crate::shop::stores::{External, Model, Query};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rand::Rng;

impl Simulation<'_> {
    /// Runs a statement and returns when it ended.
    pub(super) fn query(&mut self, parent: &mut Open, query: &'static Query, now: u64) -> u64 {
        let member = self.world.fleet.member(parent.member);
        let opening = Opening { name: summary(query), kind: SpanKind::Client, library: query.store.library, at: now };
        let mut open = self.open_child(parent, opening);
        open.attributes(query_attributes(query, member.service.conventions));
        if query.rows_max > 0 && member.service.conventions == Conventions::Stable {
            let rows = self.rng.random_range(1..=query.rows_max);
            open.attributes([int("db.response.returned_rows", rows)]);
        }
        let latency = match query.latency_after_release.filter(|_| member.slow_release) {
            Some(slow) => {
                self.inject(Problem::SlowRelease, open.context.trace_id, "", 1);
                slow
            }
            None => query.latency,
        };
        let end = now + self.draw(latency);
        self.close(open, end);
        end
    }

    /// Sends a request to a third party.
    pub(super) fn external(&mut self, parent: &mut Open, external: &'static External, attempt: u32, now: u64) -> Ran {
        let conventions = self.world.fleet.member(parent.member).service.conventions;
        let opening =
            Opening { name: external.method.to_owned(), kind: SpanKind::Client, library: Library::HttpClient, at: now };
        let mut open = self.open_child(parent, opening);
        let url = format!("https://{}{}", external.host, external.path);
        open.attributes(http_client_attributes(conventions, external.method, &url, external.host, 443));
        if attempt > 0 {
            open.attributes([int("http.request.resend_count", attempt)]);
        }
        let end = now + self.draw(external.latency);
        let failure = self.external_fails(external).then(|| Failure::of(external.fault));
        let status = failure.as_ref().map_or(200, |failure| failure.http_status);
        open.attributes([status_attribute(conventions, status)]);
        if let Some(failure) = &failure {
            open.attributes([text("error.type", failure.error_type.clone())]);
            open.fail("");
        }
        self.close(open, end);
        Ran { now: end, failure }
    }

    fn external_fails(&mut self, external: &External) -> bool {
        let refused = external.in_payment_incident && self.charge_refused;
        self.rng.random_bool(if refused { REFUSED_ATTEMPT_SHARE } else { external.failure_share })
    }

    /// One turn with a language model; returns when the answer was complete.
    pub(super) fn chat(&mut self, parent: &mut Open, model: &'static Model, now: u64) -> u64 {
        let opening =
            Opening { name: format!("chat {}", model.name), kind: SpanKind::Client, library: Library::Model, at: now };
        let mut open = self.open_child(parent, opening);
        let output_tokens: i64 = self.rng.random_range(40..420);
        open.attributes([
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", model.provider),
            text("gen_ai.request.model", model.name),
            text("gen_ai.response.model", model.name),
            double("gen_ai.request.temperature", 0.3),
            int("gen_ai.request.max_tokens", 1_024_i64),
            int("gen_ai.usage.input_tokens", self.rng.random_range(600..3_200_i64)),
            int("gen_ai.usage.output_tokens", output_tokens),
            texts("gen_ai.response.finish_reasons", &["stop"]),
            text("gen_ai.conversation.id", self.shopper.session_id.clone()),
            text("server.address", model.host),
            int("server.port", 443_i64),
        ]);
        // An answer takes about as long as it has tokens.
        let end = now + self.draw(model.answer) + output_tokens.unsigned_abs() * 3_000_000;
        self.close(open, end);
        end
    }
}

/// `db.query.summary`: the operation and what it acts on.
fn summary(query: &Query) -> String {
    if query.collection.is_empty() {
        return query.operation.to_owned();
    }
    format!("{} {}", query.operation, query.collection)
}

fn query_attributes(query: &Query, conventions: Conventions) -> Vec<KeyValue> {
    let store = query.store;
    let old = conventions == Conventions::Old;
    let names = if old {
        ["db.system", "db.name", "db.operation", "db.statement", "net.peer.name", "net.peer.port", "db.sql.table"]
    } else {
        [
            "db.system.name",
            "db.namespace",
            "db.operation.name",
            "db.query.text",
            "server.address",
            "server.port",
            "db.collection.name",
        ]
    };
    let [system, namespace, operation, statement, address, port, collection] = names;
    let mut attributes = vec![
        text(system, store.system),
        text(namespace, store.namespace),
        text(operation, query.operation),
        text(statement, query.text),
        text(address, store.address),
        int(port, store.port),
    ];
    if !query.collection.is_empty() {
        attributes.push(text(collection, query.collection));
    }
    if !old {
        attributes.push(text("db.query.summary", summary(query)));
    }
    attributes
}
