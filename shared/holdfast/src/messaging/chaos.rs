//! The deliveries of a queue, repeated, delayed and reordered: what a broker may do now and then is done all the time.
//!
//! With `CONSUMER_CHAOS=500` each delivery is handled twice, once under its own message id and once as if it had been
//! resent under a new one (which tests both the inbox and the idempotency of the effects), each after a delay of up to
//! 500 ms, in the order that results.

use std::collections::HashMap;

use lapin::{
    Channel,
    message::Delivery,
    types::{AMQPValue, DeliveryTag, LongString},
};
use tracing::warn;
use uuid::Uuid;

use super::{
    deliveries::{self, acknowledge},
    event::{ID, Incoming, text_headers},
    subscription::{Ended, Item, Subscription},
};
use crate::chaos::{self, Mixer};

/// A decorator of the [deliveries](deliveries::Deliveries), with the same functions.
pub(super) struct Deliveries {
    queue: String,
    inner: deliveries::Deliveries,
    /// `None` if the deliveries are passed on as they come.
    mixer: Option<Mixer<Item>>,
    /// The copies of each delivery that have not been handled. It is acknowledged with the last of them.
    copies: HashMap<DeliveryTag, u8>,
}

impl Deliveries {
    pub(super) async fn open(channel: Channel, subscription: &Subscription) -> Result<Self, Ended> {
        Ok(Self {
            queue: subscription.queue.clone(),
            inner: deliveries::Deliveries::open(channel, subscription).await?,
            // A fresh one for each channel: the broker delivers again what the last one held.
            mixer: chaos::longest_delay().map(Mixer::new),
            copies: HashMap::new(),
        })
    }

    pub(super) async fn head(channel: &Channel, queue: &str) -> Result<Option<Item>, Ended> {
        let item = deliveries::Deliveries::head(channel, queue).await?;
        Ok(item.map(|item| damaged(queue, item)))
    }

    /// Returns the next delivery, or the next copy of one. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Item, Ended> {
        let Some(mixer) = &mut self.mixer else {
            return Ok(damaged(&self.queue, self.inner.next().await?));
        };
        loop {
            tokio::select! {
                item = self.inner.next() => {
                    let item = damaged(&self.queue, item?);
                    let copy = resent(&item);
                    self.copies.insert(item.delivery.delivery_tag, 1 + u8::from(copy.is_some()));
                    [Some(item), copy].into_iter().flatten().for_each(|item| mixer.add(item));
                }
                item = mixer.next() => return Ok(item),
            }
        }
    }

    pub(super) async fn acknowledge(&mut self, batch: &[Item]) -> Result<(), Ended> {
        if self.mixer.is_none() {
            return self.inner.acknowledge(batch).await;
        }
        for item in batch {
            let tag = item.delivery.delivery_tag;
            let left = self.copies.get(&tag).map_or(0, |copies| copies - 1);
            if left > 0 {
                self.copies.insert(tag, left);
            } else {
                self.copies.remove(&tag);
                acknowledge(&self.queue, item, false).await?;
            }
        }
        Ok(())
    }

    pub(super) fn channel(&self) -> &Channel {
        self.inner.channel()
    }

    pub(super) async fn close(self) -> Result<(), Ended> {
        self.inner.close().await
    }

    pub(super) async fn hand_back(self) -> Result<(), Ended> {
        self.inner.hand_back().await
    }
}

/// Returns a delivery with its payload damaged, if a demonstration has requested that.
fn damaged(queue: &str, mut item: Item) -> Item {
    if let Some(payload) = chaos::damaged(queue, &item.delivery.data) {
        warn!(queue, message.id = ?item.id(), "damaged on request");
        item.delivery.data = payload;
    }
    item
}

/// Returns a copy that looks as if it had been resent, under a new id. A message that cannot be read has no copy.
fn resent(item: &Item) -> Option<Item> {
    let old = &item.delivery;
    Incoming::read(old, text_headers(old)).ok()?;
    let id = Uuid::now_v7().to_string();
    let mut headers = old.properties.headers().clone().unwrap_or_default();
    headers.insert(
        ID.into(),
        AMQPValue::LongString(LongString::from(id.as_bytes())),
    );
    let properties = old.properties.clone();
    Some(Item::new(Delivery {
        delivery_tag: old.delivery_tag,
        exchange: old.exchange.clone(),
        routing_key: old.routing_key.clone(),
        redelivered: old.redelivered,
        properties: properties.with_message_id(id.into()).with_headers(headers),
        data: old.data.clone(),
        acker: old.acker.clone(),
    }))
}
