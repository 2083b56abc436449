//! Consuming: a connection, a channel for each queue, and a batch at a time on each channel.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
use metrics::gauge;
use sqlx::PgPool;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Publisher,
    batch::Processor,
    chaos::{Chaos, Mixer},
    connection::{self, Link},
    control::{Control, Controls},
    handler::Handler,
    meter,
    parking::Drain,
    subscription::{Ended, Item, Process, Subscription},
};
use crate::backoff::Backoff;

/// The queues that a service consumes, on one connection.
pub struct Consumers {
    url: String,
    name: String,
    publisher: Publisher,
    pool: PgPool,
    consumed: Vec<(Subscription, Box<dyn Process>, Control)>,
    controls: Controls,
    up: watch::Sender<bool>,
    link: Link,
}

impl Consumers {
    /// Consumers on one connection under `name`. `publisher` brings what cannot be handled to the delays and the parking
    /// lot; `pool` is where inbox and effects are.
    pub fn new(
        url: impl Into<String>,
        name: impl Into<String>,
        publisher: Publisher,
        pool: PgPool,
    ) -> Self {
        let (up, link) = Link::new();
        Self {
            url: url.into(),
            name: name.into(),
            publisher,
            pool,
            consumed: Vec::new(),
            controls: Controls::default(),
            up,
            link,
        }
    }

    /// Consumes a queue with `handler`, and its dead-letter queue into `parked_message`.
    pub fn consume(mut self, subscription: Subscription, handler: impl Handler) -> Self {
        let queue = subscription.queue.clone();
        let drain = Subscription {
            batch: 50,
            prefetch: 50,
            ..Subscription::new(super::dead(&queue))
        };
        let control = self.controls.of(&queue);
        let processor = Processor::new(
            &subscription,
            handler,
            self.pool.clone(),
            self.publisher.clone(),
            control.clone(),
        );
        self.consumed
            .push((subscription, Box::new(processor), control));
        let parking = Drain::new(queue, self.pool.clone());
        self.consumed
            .push((drain, Box::new(parking), Control::default()));
        self
    }

    /// The switches that pause a queue. Its dead-letter queue has none: what cannot be handled is always put aside.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Whether every queue is being consumed.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Consumes until `shutdown`, then finishes the batches in hand, acknowledges them and closes.
    pub async fn run(self, shutdown: CancellationToken) {
        meter::describe();
        let chaos = Chaos::from_env();
        if let Some(chaos) = &chaos {
            warn!(
                ?chaos,
                "this consumer repeats, delays and reorders what it is given"
            );
        }
        let mut delays = Backoff::RECONNECT.delays();
        while !shutdown.is_cancelled() {
            let ended = match connection::connect(&self.url, &self.name).await {
                Ok(connection) => {
                    let ended = self
                        .session(&connection, chaos.as_ref(), &shutdown, &mut delays)
                        .await;
                    self.up.send_replace(false);
                    connection::close(&connection, "bye").await;
                    ended.err().map(|ended| ended.to_string())
                }
                Err(error) => Some(error),
            };
            if let Some(error) = ended {
                warn!(consumer = self.name, %error, "lost the broker");
                tokio::select! {
                    () = delays.wait() => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
    }

    /// One connection's life. `Ok` is shutdown.
    async fn session(
        &self,
        connection: &Connection,
        chaos: Option<&Chaos>,
        shutdown: &CancellationToken,
        delays: &mut crate::backoff::Delays,
    ) -> Result<(), Ended> {
        let mut opened = Vec::with_capacity(self.consumed.len());
        for (subscription, process, control) in &self.consumed {
            let channel = connection.create_channel().await?;
            let consumer = open(&channel, subscription).await?;
            opened.push(Queue {
                subscription,
                process: process.as_ref(),
                control,
                connection,
                channel,
                consumer,
            });
        }
        info!(consumer = self.name, "consuming");
        self.up.send_replace(true);
        delays.reset();

        let mut running: FuturesUnordered<_> = opened
            .into_iter()
            .map(|queue| async move {
                match chaos {
                    None => queue.run(shutdown).await,
                    Some(chaos) => queue.run_with(Mixer::new(chaos), shutdown).await,
                }
            })
            .collect();
        // The first that fails ends the session. The others are dropped where they are: a transaction rolls back, and a
        // commit whose answer is lost is known to the inbox when the message comes again.
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(ended) => ended?,
                    None => return Ok(()),
                },
                () = grace_after(shutdown) => {
                    warn!(consumer = self.name, "stopped with a batch in hand; it comes again");
                    return Ok(());
                }
            }
        }
    }
}

/// Ends a while after shutdown began: a batch that waits for its database does not hold up the process for ever.
async fn grace_after(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    crate::backoff::pause(Duration::from_secs(10)).await;
}

impl fmt::Debug for Consumers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queues: Vec<_> = self
            .consumed
            .iter()
            .map(|(subscription, ..)| &subscription.queue)
            .collect();
        f.debug_struct("Consumers")
            .field("name", &self.name)
            .field("queues", &queues)
            .finish_non_exhaustive()
    }
}

async fn open(channel: &Channel, subscription: &Subscription) -> Result<Consumer, lapin::Error> {
    channel
        .basic_qos(subscription.prefetch, BasicQosOptions::default())
        .await?;
    let queue = ShortString::from(subscription.queue.as_str());
    channel
        .basic_consume(
            queue,
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await
}

/// One queue on one channel.
struct Queue<'a> {
    subscription: &'a Subscription,
    process: &'a dyn Process,
    control: &'a Control,
    connection: &'a Connection,
    channel: Channel,
    consumer: Consumer,
}

impl Queue<'_> {
    async fn run(mut self, shutdown: &CancellationToken) -> Result<(), Ended> {
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.stop().await,
                () = self.control.until(true) => match self.pause(shutdown).await? {
                    Some(resumed) => {
                        self = resumed;
                        continue;
                    }
                    None => return Ok(()),
                },
                delivery = self.consumer.next() => self.delivered(delivery)?,
            };
            let batch = self.fill(first).await?;
            self.process.process(&self.channel, &batch).await?;
            if let Some(last) = batch.last() {
                // One outstanding batch per channel, so this acknowledges exactly the batch.
                self.acknowledge(&last.delivery, true).await?;
            }
        }
    }

    /// Takes what has arrived, and what arrives while the batch lingers.
    async fn fill(&mut self, first: Delivery) -> Result<Vec<Item>, Ended> {
        let until = Instant::now() + self.subscription.linger;
        let mut batch = vec![Item {
            delivery: Arc::new(first),
            resent_as: None,
        }];
        while batch.len() < self.subscription.batch.into() {
            match timeout_at(until, self.consumer.next()).await {
                Err(_) => break,
                Ok(delivery) => {
                    let delivery = Arc::new(self.delivered(delivery)?);
                    batch.push(Item {
                        delivery,
                        resent_as: None,
                    });
                }
            }
        }
        Ok(batch)
    }

    /// Like [`Self::run`], but through a [`Mixer`]. Acknowledges a delivery when its last copy has been handled.
    async fn run_with(
        mut self,
        mut mixer: Mixer,
        shutdown: &CancellationToken,
    ) -> Result<(), Ended> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.stop().await,
                () = self.control.until(true) => match self.pause(shutdown).await? {
                    Some(resumed) => {
                        self = resumed;
                        mixer.clear();
                        continue;
                    }
                    None => return Ok(()),
                },
                delivery = self.consumer.next() => {
                    mixer.add(self.delivered(delivery)?);
                    continue;
                }
                () = mixer.due() => {}
            }
            let batch = mixer.take(self.subscription.batch.into());
            self.process.process(&self.channel, &batch).await?;
            for Item { delivery, .. } in batch {
                if Arc::strong_count(&delivery) == 1 {
                    self.acknowledge(&delivery, false).await?;
                }
            }
        }
    }

    fn delivered(
        &self,
        delivery: Option<Result<Delivery, lapin::Error>>,
    ) -> Result<Delivery, Ended> {
        Ok(delivery.ok_or_else(|| Ended::Stream(self.subscription.queue.clone()))??)
    }

    async fn acknowledge(&self, delivery: &Delivery, multiple: bool) -> Result<(), Ended> {
        if delivery.ack(BasicAckOptions { multiple }).await? {
            Ok(())
        } else {
            Err(Ended::Channel(self.subscription.queue.clone()))
        }
    }

    /// Takes nothing until it may again, or until `shutdown`: then there is nothing to go on with.
    async fn pause(self, shutdown: &CancellationToken) -> Result<Option<Self>, Ended> {
        let Self {
            subscription,
            process,
            control,
            connection,
            ..
        } = self;
        self.stop().await?;
        let paused = Paused::now(&subscription.queue);
        info!(queue = subscription.queue, "paused by an operator");
        // A connection that breaks meanwhile ends the session at its other queues; the next session pauses here again.
        let resumed = shutdown.run_until_cancelled(control.until(false)).await;
        drop(paused);
        if resumed.is_none() {
            return Ok(None);
        }
        info!(queue = subscription.queue, "going on");
        let channel = connection.create_channel().await?;
        let consumer = open(&channel, subscription).await?;
        Ok(Some(Self {
            subscription,
            process,
            control,
            connection,
            channel,
            consumer,
        }))
    }

    /// Takes no more. What was handed over and not begun goes back to the queue with the channel.
    async fn stop(self) -> Result<(), Ended> {
        self.channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default())
            .await?;
        self.channel.close(200, "bye".into()).await?;
        Ok(())
    }
}

/// A queue is paused for as long as this lives: also a session that breaks meanwhile takes its mark away.
struct Paused(metrics::Gauge);

impl Paused {
    fn now(queue: &str) -> Self {
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
