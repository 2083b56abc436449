//! The counts of a consumer: a message counts as handled once its transaction has committed, as retried or parked once
//! the broker has it.

use std::time::Duration;

use metrics::{
    Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use time::OffsetDateTime;

use super::event::Incoming;
use crate::outbox::Message;

/// Describes each metric, for readers of `/metrics`.
pub(super) fn describe() {
    describe_counter!(
        "messages_total",
        Unit::Count,
        "Messages that a consumer is done with, by outcome: handled, repeated (known already, and ignored), \
         retried (sent to the next delay), parked"
    );
    describe_counter!(
        "message_conflicts_total",
        Unit::Count,
        "Batches that lost a race in the database and ran again"
    );
    describe_counter!(
        "parking_refused_total",
        Unit::Count,
        "Times that the table of parked messages refused a message, which went back to the end of its dead-letter queue"
    );
    describe_histogram!(
        "message_batch_size",
        Unit::Count,
        "Messages in a batch that could be read"
    );
    describe_histogram!(
        "message_batch_duration_seconds",
        Unit::Seconds,
        "From taking a batch in hand to its commit, waiting for the database included"
    );
    describe_histogram!(
        "message_lag_seconds",
        Unit::Seconds,
        "From when a message was written, by its publisher's clock, to the commit of what it led to"
    );
    describe_gauge!(
        "consumer_paused",
        Unit::Count,
        "1 while a queue is not consumed: an operator paused it, a dependency is unavailable, or messages that cannot \
         be handled have nowhere to go"
    );
}

/// Starts each series of a queue at zero, so that the first of anything is an increase.
pub(super) fn begin(queue: &str) {
    for outcome in ["handled", "repeated", "retried", "parked"] {
        counter!("messages_total", "queue" => queue.to_owned(), "outcome" => outcome).increment(0);
    }
    counter!("message_conflicts_total", "queue" => queue.to_owned()).increment(0);
    refused(queue, 0);
    gauge!("consumer_paused", "queue" => queue.to_owned()).set(0.0);
}

/// A mark that a queue is not consumed, for as long as it lives.
pub(super) struct Paused(Gauge);

impl Paused {
    pub(super) fn now(queue: &str) -> Self {
        let paused = gauge!("consumer_paused", "queue" => queue.to_owned());
        paused.set(1.0);
        Self(paused)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}

/// Records the size and the duration of a batch that came to its end.
pub(super) fn batch(queue: &str, size: usize, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
    histogram!("message_batch_size", "queue" => queue.to_owned()).record(size as f64);
    histogram!("message_batch_duration_seconds", "queue" => queue.to_owned()).record(took);
}

/// Counts the messages of a batch that has committed: `fresh` were new, and `repeated` were not.
pub(super) fn committed<'a>(
    queue: &str,
    fresh: impl ExactSizeIterator<Item = &'a Incoming>,
    repeated: usize,
) {
    counter!("messages_total", "queue" => queue.to_owned(), "outcome" => "handled")
        .increment(fresh.len() as u64);
    counter!("messages_total", "queue" => queue.to_owned(), "outcome" => "repeated")
        .increment(repeated as u64);
    let lag = histogram!("message_lag_seconds", "queue" => queue.to_owned());
    let now = OffsetDateTime::now_utc();
    for written in fresh.filter_map(|event| event.time) {
        // Another machine's clock may be ahead of ours.
        lag.record((now - written).as_seconds_f64().max(0.0));
    }
}

/// Counts messages that the table of parked messages refused, once the broker has them again.
pub(super) fn refused(queue: &str, messages: usize) {
    counter!("parking_refused_total", "queue" => queue.to_owned()).increment(messages as u64);
}

/// The numbers of messages that go elsewhere instead of taking effect.
pub(super) struct Diverted {
    retried: u64,
    parked: u64,
}

impl Diverted {
    pub(super) fn of(queue: &str, messages: &[Message]) -> Self {
        let dead = super::dead(queue);
        let is_parked = |message: &&Message| message.routing_key == dead;
        let parked = messages.iter().filter(is_parked).count() as u64;
        Self {
            retried: messages.len() as u64 - parked,
            parked,
        }
    }

    /// Counts the messages. Called once the broker has them.
    pub(super) fn count(&self, queue: &str) {
        for (outcome, messages) in [("retried", self.retried), ("parked", self.parked)] {
            counter!("messages_total", "queue" => queue.to_owned(), "outcome" => outcome)
                .increment(messages);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Diverted;
    use crate::outbox::Message;

    #[test]
    fn a_message_is_parked_by_where_it_goes() {
        let to = |routing_key: String| Message {
            id: uuid::Uuid::now_v7(),
            exchange: String::new(),
            routing_key,
            headers: std::collections::BTreeMap::new(),
            payload: Vec::new(),
        };
        let messages = [
            to(super::super::dead("q")),
            to(super::super::retry("q", 1)),
            to(super::super::retry("q", 2)),
        ];
        let Diverted { retried, parked } = Diverted::of("q", &messages);
        assert_eq!((retried, parked), (2, 1));
    }
}
