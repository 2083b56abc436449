//! The deliveries of one queue on one channel: how they arrive, and how they are acknowledged.

use futures_util::StreamExt;
use lapin::{
    Channel, Consumer,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions,
        BasicNackOptions, BasicQosOptions,
    },
    types::{FieldTable, ShortString},
};

use super::subscription::{Ended, Item, Subscription};

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

    /// Stops consuming, and requeues everything unacknowledged by one command on the channel: a later `basic.get` on it
    /// finds those messages in the queue again.
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
