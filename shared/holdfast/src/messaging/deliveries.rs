//! The deliveries of one queue on one channel: how they arrive, and how they are acknowledged.

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions,
        BasicNackOptions, BasicQosOptions,
    },
    types::{FieldTable, ShortString},
};
use uuid::Uuid;

use super::subscription::{Ended, Subscription};

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
    /// header, and nothing that the broker says tells the second of them from a redelivery of the first. So a
    /// redelivered one may be parked twice, which an operator sees, and none is lost, which no operator would see.
    pub(super) fn parking_id(&self) -> Uuid {
        self.id().unwrap_or(self.unnamed)
    }

    /// Returns the id under which the message is parked if another message was parked under its own.
    pub(super) fn other_id(&self) -> Uuid {
        self.unnamed
    }
}

/// The messages that the broker delivers on a channel.
pub(super) struct Deliveries {
    queue: String,
    channel: Channel,
    consumer: Consumer,
}

impl Deliveries {
    /// Subscribes to a queue.
    pub(super) async fn open(channel: Channel, subscription: &Subscription) -> Result<Self, Ended> {
        let Subscription {
            queue, prefetch, ..
        } = subscription;
        channel
            .basic_qos(*prefetch, BasicQosOptions::default())
            .await?;
        let consumer = channel
            .basic_consume(
                ShortString::from(queue.as_str()),
                ShortString::default(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await?;
        Ok(Self {
            queue: queue.clone(),
            channel,
            consumer,
        })
    }

    /// Takes the first message of a queue to which the channel is not subscribed, if there is one.
    pub(super) async fn head(channel: &Channel, queue: &str) -> Result<Option<Item>, Ended> {
        let queue = ShortString::from(queue);
        let got = channel.basic_get(queue, BasicGetOptions::default()).await?;
        Ok(got.map(|got| Item::new(got.delivery)))
    }

    /// Returns the next delivery. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Item, Ended> {
        match self.consumer.next().await {
            Some(delivery) => Ok(Item::new(delivery?)),
            None => Err(Ended::Stream(self.queue.clone())),
        }
    }

    /// Acknowledges a batch: all deliveries since the last batch, in the order in which they came.
    pub(super) async fn acknowledge(&mut self, batch: &[Item]) -> Result<(), Ended> {
        match batch.last() {
            Some(last) => acknowledge(&self.queue, last, true).await,
            None => Ok(()),
        }
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Stops consuming, and closes the channel: unacknowledged deliveries return to the queue.
    pub(super) async fn close(self) -> Result<(), Ended> {
        self.cancel().await?;
        Ok(self.channel.close(200, "bye".into()).await?)
    }

    /// Stops consuming, and requeues everything unacknowledged, in one place in the channel's order: a later `basic.get`
    /// on it finds those messages in the queue again.
    pub(super) async fn hand_back(self) -> Result<(), Ended> {
        self.cancel().await?;
        let everything = 0;
        let options = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        Ok(self.channel.basic_nack(everything, options).await?)
    }

    async fn cancel(&self) -> Result<(), lapin::Error> {
        self.channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default())
            .await
    }
}

/// Acknowledges a delivery; with `multiple` also all earlier ones of its channel.
pub(super) async fn acknowledge(queue: &str, item: &Item, multiple: bool) -> Result<(), Ended> {
    if item.delivery.ack(BasicAckOptions { multiple }).await? {
        Ok(())
    } else {
        Err(Ended::Channel(queue.to_owned()))
    }
}
