//! A queue to consume, and the work on its deliveries.

use std::{future::Future, pin::Pin, time::Duration};

use lapin::{Channel, message::Delivery};
use tokio::time::Instant;
use uuid::Uuid;

/// The longest time for which a batch lingers. A point in time far beyond it does not fit the clock.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A queue, and the way in which it is consumed.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The queue's name. The queue exists already.
    pub queue: String,
    /// The most messages in one transaction.
    pub batch: u16,
    /// The number of messages that the broker delivers before any is acknowledged. Twice the batch keeps the next batch
    /// coming while this one commits.
    pub prefetch: u16,
    /// The time to wait for a batch to fill, if the last batch had more than one message. So transactions are fewer and
    /// larger under load, and a message that comes alone is handled at once. More than a day counts as a day.
    pub linger: Duration,
    /// The time limit of a batch's transaction.
    pub transaction: Duration,
    /// The number of this queue's delay queues behind [its exchange](super::retry_exchange).
    pub retries: u32,
}

impl Subscription {
    /// Consumes in batches of up to 100, filled for up to 10 ms, in transactions of up to 30 s, with four delays.
    pub fn new(queue: impl Into<String>) -> Self {
        Self {
            queue: queue.into(),
            batch: 100,
            prefetch: 200,
            linger: Duration::from_millis(10),
            transaction: Duration::from_secs(30),
            retries: 4,
        }
    }

    /// Returns the time until which a batch that begins now lingers.
    pub(super) fn lingers_until(&self) -> Instant {
        Instant::now() + self.linger.min(DAY)
    }
}

/// The end of a session with the broker. Whatever the reason: connect again, and everything unacknowledged is delivered
/// again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    /// The broker cancelled the consumer: its queue was deleted, or moved.
    #[error("the broker ended the consumer of {0}")]
    Stream(String),
    /// The channel was lost while the consumer waited for something else.
    #[error("the channel of {0} is gone")]
    Channel(String),
}

/// The work on the deliveries of one queue.
pub(super) trait Process: Send + Sync {
    /// Handles a batch. When it returns `Ok`, each delivery may be acknowledged: its effect has committed, or a copy of
    /// it is safe elsewhere.
    fn process<'a>(
        &'a self,
        channel: &'a Channel,
        batch: &'a [Item],
    ) -> Pin<Box<dyn Future<Output = Result<(), Ended>> + Send + 'a>>;
}

/// A delivery, with the id that it has in the parking lot.
pub(super) struct Item {
    pub(super) delivery: Delivery,
    /// The id under which the message is parked if it has none. New for each delivery.
    unnamed: Uuid,
}

impl Item {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self {
            delivery,
            unnamed: Uuid::now_v7(),
        }
    }

    /// Returns the message's own id, if it has a valid one.
    pub(super) fn id(&self) -> Option<Uuid> {
        let id = self.delivery.properties.message_id().as_ref()?;
        id.as_str().parse().ok()
    }

    /// Returns the id under which the message is parked: its own, or else one of this delivery alone.
    ///
    /// The latter is never derived from the content. Two messages without an id may be equal in every byte and every
    /// header, and nothing that the broker sends distinguishes the second of them from a redelivery of the first. So a
    /// redelivered one may be parked twice, which an operator sees, and none is lost, which no operator would see.
    pub(super) fn parking_id(&self) -> Uuid {
        self.id().unwrap_or(self.unnamed)
    }

    /// Returns the id under which the message is parked if another message was parked under its own.
    pub(super) fn other_id(&self) -> Uuid {
        self.unnamed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn linger_beyond_the_clock_is_shortened() {
        let mut subscription = Subscription::new("queue");
        assert_eq!(
            subscription.lingers_until(),
            Instant::now() + Duration::from_millis(10)
        );
        subscription.linger = Duration::MAX;
        assert_eq!(subscription.lingers_until(), Instant::now() + DAY);
    }
}
