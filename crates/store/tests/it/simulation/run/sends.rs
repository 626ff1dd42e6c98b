//! What is sent, and what is answered.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracehouse_model::{Clock, Span};
use tracehouse_store::{Durability, StoreStep};

use super::{Appending, Run};
use crate::simulation::expected::TENANTS;
use crate::spans::{NOON, SECOND, batch_of, plain_span};
use crate::world::tenant;

impl Run {
    /// Now, whatever the wall clock says.
    pub(super) fn now(&self) -> i64 {
        NOON + self.clock.monotonic().as_nanos() as i64
    }

    pub(super) fn send(&mut self) {
        let of = self.chance.below(TENANTS as u64) as usize;
        let count = 1 + self.chance.below(if self.chance.clone().one_in(8) { 60 } else { 8 });
        let ago = self.chance.pick(&[0, 0, 0, 1, 90]) * 60 * SECOND;
        let spans: Vec<Span> = (0..count)
            .map(|_| {
                self.spans += 1;
                let trace = u128::from(1 + self.spans / 5) << 60;
                let start = self.now() - ago - self.chance.below(30 * SECOND as u64) as i64;
                plain_span(trace, self.spans, self.spans.saturating_sub(1), start)
            })
            .collect();
        self.append(of, spans);
    }

    /// A batch once more, or a part of it.
    pub(super) fn send_again(&mut self) {
        if self.expected.batches.is_empty() {
            return;
        }
        let sent = &self.expected.batches[self.chance.below(self.expected.batches.len() as u64) as usize];
        let (of, mut spans) = (sent.tenant, sent.spans.clone());
        if self.chance.one_in(3) {
            spans.truncate(1 + self.chance.below(spans.len() as u64) as usize);
        }
        self.append(of, spans);
    }

    fn append(&mut self, of: usize, spans: Vec<Span>) {
        let (store, batch) = (self.store().clone(), batch_of(&spans));
        let number = self.expected.sent(of, spans);
        self.tell(&format!("batch {number}, of {}, {} spans", tenant(of), batch.len()));
        let appending: Appending = Box::pin(async move { store.append(tenant(of), batch).await });
        self.appending.push((number, appending));
        self.poll();
    }

    /// Takes what was answered.
    pub(super) fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let now = self.clock.monotonic();
        let is_durable_at_once = self.config.durability == Durability::Fsync;
        let is_told = std::env::var_os("SIMULATION_SEED").is_some();
        let expected = &mut self.expected;
        self.appending.retain_mut(|(batch, appending)| match appending.as_mut().poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                if is_told {
                    eprintln!("batch {batch}: {answer:?}");
                }
                if answer.is_ok() {
                    expected.acknowledged(*batch, now);
                    if is_durable_at_once {
                        expected.durable(now);
                    }
                }
                false
            }
        });
        // What was acknowledged just now may have been dropped just then.
        if self.disk.take_dropped() {
            expected.doubt();
        }
    }

    pub(super) fn step(&mut self, step: StoreStep) {
        self.store().step(step);
        self.poll();
        if step == StoreStep::Log && self.is_sound && self.disk.has_power() {
            let interval = match self.config.durability {
                Durability::Fsync => Duration::ZERO,
                Durability::Interval(interval) => interval,
            };
            if let Some(up_to) = self.clock.monotonic().checked_sub(interval) {
                self.expected.durable(up_to);
            }
        }
    }
}
