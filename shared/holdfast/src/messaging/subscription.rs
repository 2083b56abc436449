//! What is consumed, and what is done with it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use lapin::{Channel, message::Delivery};
use uuid::Uuid;

/// How a queue is consumed.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The queue. It exists already.
    pub queue: String,
    /// Messages per transaction, at most.
    pub batch: u16,
    /// Messages that the broker hands over before any is acknowledged. Twice the batch keeps the next one coming while
    /// this one commits.
    pub prefetch: u16,
    /// How long to wait for a batch to fill, if the last batch had more than one message. So there are fewer and larger
    /// transactions under load, and a message that comes alone is handled at once.
    pub linger: Duration,
    /// How long the transaction of a batch may take.
    pub transaction: Duration,
    /// How many delay queues there are behind [its exchange](super::retry_exchange) for this queue.
    pub retries: u32,
}

impl Subscription {
    /// Batches of up to 100, filled for up to 10 ms, transactions of up to 30 s, and four delays.
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
}

/// Why a session with the broker ended. Whatever the reason: connect again, and everything unacknowledged comes again.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("{0}")]
    Broker(#[from] lapin::Error),
    /// The broker cancelled the consumer: its queue was deleted, or moved.
    #[error("the broker ended the consumer of {0}")]
    Stream(String),
    /// The channel went away while the consumer waited for something else.
    #[error("the channel of {0} is gone")]
    Channel(String),
}

/// What is done with the deliveries of one queue.
pub(super) trait Process: Send + Sync {
    /// Handles a batch. When it returns `Ok`, each delivery may be acknowledged: its effect has committed, or a copy of it
    /// is safe elsewhere.
    fn process<'a>(
        &'a self,
        channel: &'a Channel,
        batch: &'a [Item],
    ) -> Pin<Box<dyn Future<Output = Result<(), Ended>> + Send + 'a>>;
}

/// A delivery, under the id by which the inbox will know it (its own, but for copies that [`chaos`](super::chaos) makes).
#[derive(Clone)]
pub(super) struct Item {
    pub(super) delivery: Arc<Delivery>,
    pub(super) resent_as: Option<Uuid>,
    /// The id under which it is parked if it brings none. New for each delivery, shared by copies of one delivery.
    unnamed: Uuid,
}

impl Item {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self {
            delivery: Arc::new(delivery),
            resent_as: None,
            unnamed: Uuid::now_v7(),
        }
    }

    /// A copy that looks as if it had been sent again.
    pub(super) fn resent(&self) -> Self {
        Self {
            resent_as: Some(Uuid::now_v7()),
            ..self.clone()
        }
    }

    /// Returns the id under which it is parked: the one that it brings, or else one of this delivery alone.
    ///
    /// The latter never follows from the content. Two messages without an id may be equal in every byte and every header, and
    /// nothing that the broker says tells the second of them from a redelivery of the first. So a redelivered one may be
    /// parked twice, which an operator sees, and none is lost, which no operator would see.
    pub(super) fn parking_id(&self) -> Uuid {
        let id = self.delivery.properties.message_id().as_ref();
        id.and_then(|id| id.as_str().parse().ok())
            .unwrap_or(self.unnamed)
    }

    /// Returns the id under which it is parked if another message came under its own.
    pub(super) fn other_id(&self) -> Uuid {
        self.unnamed
    }
}
