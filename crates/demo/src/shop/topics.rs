//! Queues and topics, and who consumes them.

use super::{ServiceId, Step, endpoints as e};
use crate::latency::{Latency, ms, wide_ms};

pub struct Topic {
    /// Well-known value of `messaging.system`.
    pub system: &'static str,
    pub name: &'static str,
    pub address: &'static str,
    pub port: u16,
    pub publish: Latency,
    pub consumers: &'static [Consumer],
}

/// How a consumer's spans hang together with the producer's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Attachment {
    /// One `process` span per message, a child of the message's producer span.
    ChildOfProducer,
    /// One trace of its own per polled batch, with a link to each message's producer span.
    LinkedBatch,
}

pub struct Consumer {
    pub service: ServiceId,
    pub group: &'static str,
    pub attachment: Attachment,
    /// Time a message lies in the queue.
    pub queue_wait: Latency,
    pub steps: &'static [Step],
}

pub static ORDERS: Topic = Topic {
    system: "kafka",
    name: "orders.placed",
    address: "kafka-bootstrap.aurora.internal",
    port: 9092,
    publish: ms(3.2),
    consumers: &[
        Consumer {
            service: ServiceId::OrderProcessor,
            group: "order-processor",
            attachment: Attachment::ChildOfProducer,
            queue_wait: wide_ms(35.0),
            steps: &e::PROCESS_ORDER,
        },
        Consumer {
            service: ServiceId::Loyalty,
            group: "loyalty-points",
            attachment: Attachment::LinkedBatch,
            queue_wait: wide_ms(420.0),
            steps: &e::AWARD_POINTS,
        },
    ],
};

pub static OUTBOUND_MAIL: Topic = Topic {
    system: "rabbitmq",
    name: "email.outbound",
    address: "rabbitmq.aurora.internal",
    port: 5672,
    publish: ms(1.4),
    consumers: &[Consumer {
        service: ServiceId::Email,
        group: "",
        attachment: Attachment::ChildOfProducer,
        queue_wait: wide_ms(160.0),
        steps: &e::SEND_MAIL,
    }],
};
