//! Messages through queues: producers now, consumers some time later.

use super::Simulation;
use super::spans::{Context, Open, Opening};
use crate::attribute::{int, text};
use crate::shop::scopes::Library;
use crate::shop::topics::{Attachment, Consumer, Topic};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::{Link, SpanKind};
use rand::Rng;

/// A message in the queue.
struct Message {
    context: Context,
    sent_at: u64,
    id: String,
    partition: i64,
    offset: i64,
    body_bytes: i64,
}

/// Flags of a link to a span of another process: sampled, random, and known to be remote.
const LINK_FLAGS: u32 = 0x303;

impl Simulation<'_> {
    /// Sends `count` messages and lets the consumers handle them. Returns when the last one was sent.
    pub(super) fn publish(&mut self, parent: &mut Open, topic: &'static Topic, count: u32, mut now: u64) -> u64 {
        let mut messages = Vec::new();
        for _ in 0..count {
            let message = self.send_message(parent, topic, now);
            now = message.sent_at + self.rng.random_range(10_000..60_000);
            messages.push(message);
        }
        for consumer in topic.consumers {
            self.consume(topic, consumer, &messages, now);
        }
        now
    }

    fn send_message(&mut self, parent: &mut Open, topic: &'static Topic, now: u64) -> Message {
        let opening = Opening {
            name: format!("send {}", topic.name),
            kind: SpanKind::Producer,
            library: Library::Messaging,
            at: now,
        };
        let mut open = self.open_child(parent, opening);
        let sent_at = now + self.draw(topic.publish);
        let message = Message {
            context: open.context.clone(),
            sent_at,
            id: crate::fleet::uuid(&mut self.rng),
            partition: self.rng.random_range(0..12),
            offset: self.rng.random_range(4_000_000..90_000_000),
            body_bytes: self.rng.random_range(400..5_200),
        };
        open.attributes(topic_attributes(topic, "send", "send"));
        open.attributes(message_attributes(topic, &message));
        self.close(open, sent_at);
        message
    }

    fn consume(&mut self, topic: &'static Topic, consumer: &'static Consumer, messages: &[Message], now: u64) {
        match consumer.attachment {
            Attachment::ChildOfProducer => {
                for message in messages {
                    self.process_one(topic, consumer, message);
                }
            }
            Attachment::LinkedBatch => self.process_batch(topic, consumer, messages, now),
        }
    }

    fn process_one(&mut self, topic: &'static Topic, consumer: &'static Consumer, message: &Message) {
        let at = message.sent_at + self.draw(consumer.queue_wait);
        let member = self.world.fleet.pick(consumer.service, at, &mut self.rng);
        let opening = process_opening(topic, at);
        let mut open = self.open_remote(member, &message.context, opening);
        open.attributes(topic_attributes(topic, "process", "process"));
        open.attributes(message_attributes(topic, message));
        self.process(open, consumer, at);
    }

    fn process_batch(&mut self, topic: &'static Topic, consumer: &'static Consumer, messages: &[Message], now: u64) {
        let at = now + self.draw(consumer.queue_wait);
        let member = self.world.fleet.pick(consumer.service, at, &mut self.rng);
        let trace_id = self.new_trace_id();
        let mut open = self.open_root(member, trace_id, "", process_opening(topic, at));
        open.attributes(topic_attributes(topic, "process", "process"));
        open.attributes([int("messaging.batch.message_count", messages.len() as i64)]);
        open.span.links = messages.iter().map(|message| link_to(topic, message)).collect();
        self.process(open, consumer, at);
    }

    fn process(&mut self, mut open: Open, consumer: &'static Consumer, at: u64) {
        let member = self.world.fleet.member(open.member);
        if !consumer.group.is_empty() {
            open.attributes([text("messaging.consumer.group.name", consumer.group)]);
        }
        open.attributes([
            text("messaging.client.id", format!("{}-{}", member.service.name, member.address.replace('.', "-"))),
            text("tenant.id", self.shopper.tenant),
        ]);
        let ran = self.steps(&mut open, consumer.steps, at);
        if let Some(failure) = &ran.failure {
            open.exception(failure, ran.now);
            open.attributes([text("error.type", failure.error_type.clone())]);
            open.fail(failure.message.clone());
        }
        self.close(open, ran.now);
    }
}

fn process_opening(topic: &Topic, at: u64) -> Opening {
    Opening { name: format!("process {}", topic.name), kind: SpanKind::Consumer, library: Library::Messaging, at }
}

fn link_to(topic: &Topic, message: &Message) -> Link {
    Link {
        trace_id: message.context.trace_id.to_vec(),
        span_id: message.context.span_id.to_vec(),
        trace_state: message.context.trace_state.to_owned(),
        attributes: message_attributes(topic, message),
        flags: LINK_FLAGS,
        ..Default::default()
    }
}

fn topic_attributes(topic: &Topic, operation_type: &str, operation_name: &str) -> Vec<KeyValue> {
    vec![
        text("messaging.system", topic.system),
        text("messaging.destination.name", topic.name),
        text("messaging.operation.type", operation_type),
        text("messaging.operation.name", operation_name),
        text("server.address", topic.address),
        int("server.port", topic.port),
    ]
}

fn message_attributes(topic: &Topic, message: &Message) -> Vec<KeyValue> {
    let mut attributes =
        vec![text("messaging.message.id", message.id.clone()), int("messaging.message.body.size", message.body_bytes)];
    if topic.system == "kafka" {
        attributes.extend([
            text("messaging.destination.partition.id", message.partition.to_string()),
            int("messaging.kafka.offset", message.offset),
        ]);
    } else {
        attributes.push(text("messaging.rabbitmq.destination.routing_key", topic.name));
    }
    attributes
}
