//! Consuming: a connection, a channel for each queue, and a batch at a time on each channel.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::{FieldTable, ShortString},
};
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
    meter::{self, Paused},
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
    up: (watch::Sender<bool>, Link),
    receiving: (watch::Sender<bool>, Link),
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
        Self {
            url: url.into(),
            name: name.into(),
            publisher,
            pool,
            consumed: Vec::new(),
            controls: Controls::default(),
            up: Link::new(),
            receiving: Link::new(),
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

    /// Whether every queue is being consumed, but for those that an operator paused.
    pub fn link(&self) -> Link {
        self.up.1.clone()
    }

    /// Whether every queue is being consumed, none paused: while it is not, an answer that does not come may be waiting
    /// in its queue.
    pub fn receiving(&self) -> Link {
        self.receiving.1.clone()
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
        let consuming = Consuming {
            wanted: self.consumed.len(),
            queues: Mutex::default(),
            up: &self.up.0,
            receiving: &self.receiving.0,
        };
        consuming.add(0, false);
        let mut running: FuturesUnordered<_> = self
            .consumed
            .iter()
            .map(|(subscription, process, control)| Queue {
                subscription,
                process: process.as_ref(),
                control,
                connection,
                consuming: &consuming,
            })
            .map(|queue| queue.keep(chaos, shutdown))
            .collect();
        // A connection that fails ends the session. The queues are dropped where they are: a transaction rolls back, and
        // a commit whose answer is lost is known to the inbox when the message comes again.
        loop {
            tokio::select! {
                ended = running.next() => match ended {
                    Some(ended) => ended?,
                    None => return Ok(()),
                },
                () = self.up.1.up(), if delays.failures() > 0 => delays.reset(),
                () = grace_after(shutdown) => {
                    warn!(consumer = self.name, "stopped with a batch in hand; it comes again");
                    return Ok(());
                }
            }
        }
    }
}

/// How many of a session's queues are being consumed.
struct Consuming<'a> {
    wanted: usize,
    /// Those that are open, and those that are paused. A std lock: held for a count, never across an await.
    queues: Mutex<(usize, usize)>,
    up: &'a watch::Sender<bool>,
    receiving: &'a watch::Sender<bool>,
}

impl Consuming<'_> {
    /// One more, for as long as what it answers lives.
    fn one(&self, is_paused: bool) -> One<'_> {
        self.add(1, is_paused);
        One {
            of: self,
            is_paused,
        }
    }

    fn add(&self, change: isize, is_paused: bool) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let (open, paused) = &mut *queues;
        let count = if is_paused { &mut *paused } else { &mut *open };
        *count = count.saturating_add_signed(change);
        self.receiving.send_replace(*open == self.wanted);
        self.up.send_replace(*open + *paused == self.wanted);
    }
}

struct One<'a> {
    of: &'a Consuming<'a>,
    is_paused: bool,
}

impl Drop for One<'_> {
    fn drop(&mut self) {
        self.of.add(-1, self.is_paused);
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

/// One queue of a session.
#[derive(Clone, Copy)]
struct Queue<'a> {
    subscription: &'a Subscription,
    process: &'a dyn Process,
    control: &'a Control,
    connection: &'a Connection,
    consuming: &'a Consuming<'a>,
}

impl Queue<'_> {
    /// Consumes it for as long as there is a connection. A queue that is not there, or that we may not read, closes its
    /// own channel: the others go on meanwhile. `Ok` is shutdown.
    async fn keep(self, chaos: Option<&Chaos>, shutdown: &CancellationToken) -> Result<(), Ended> {
        let mut delays = Backoff::RECONNECT.delays();
        loop {
            // A fresh mixer for each channel: what it held comes again.
            let mixer = chaos.map(Mixer::new);
            let ended = match self.serve(mixer, shutdown, &mut delays).await {
                Ok(Left::Paused) => match self.paused(shutdown).await {
                    Some(()) => continue,
                    None => return Ok(()),
                },
                Ok(Left::Shutdown) => return Ok(()),
                Err(ended) => ended,
            };
            if !self.connection.status().connected() {
                return Err(ended);
            }
            warn!(queue = self.subscription.queue, error = %ended, "this queue cannot be consumed");
            tokio::select! {
                () = delays.wait() => {}
                () = shutdown.cancelled() => return Ok(()),
            }
        }
    }

    /// Consumes it on a channel of its own.
    async fn serve(
        self,
        mixer: Option<Mixer>,
        shutdown: &CancellationToken,
        delays: &mut crate::backoff::Delays,
    ) -> Result<Left, Ended> {
        if self.control.is_paused() {
            return Ok(Left::Paused);
        }
        let channel = self.connection.create_channel().await?;
        let consumer = open(&channel, self.subscription).await?;
        let _counted = self.consuming.one(false);
        info!(queue = self.subscription.queue, "consuming");
        delays.reset();
        let opened = Opened {
            queue: self,
            channel,
            consumer,
        };
        match mixer {
            None => opened.run(shutdown).await,
            Some(mixer) => opened.run_with(mixer, shutdown).await,
        }
    }

    /// Takes nothing until it may again; `None` is shutdown.
    async fn paused(&self, shutdown: &CancellationToken) -> Option<()> {
        let _counted = self.consuming.one(true);
        let _paused = Paused::now(&self.subscription.queue);
        info!(queue = self.subscription.queue, "paused by an operator");
        // A connection that breaks meanwhile ends the session at its other queues; the next session pauses here again.
        shutdown
            .run_until_cancelled(self.control.until(false))
            .await?;
        info!(queue = self.subscription.queue, "going on");
        Some(())
    }
}

/// Why a queue was left in good order.
enum Left {
    Shutdown,
    /// An operator wants it to be left alone.
    Paused,
}

/// One queue on one channel.
struct Opened<'a> {
    queue: Queue<'a>,
    channel: Channel,
    consumer: Consumer,
}

impl Opened<'_> {
    async fn run(mut self, shutdown: &CancellationToken) -> Result<Left, Ended> {
        // Whether the last batch had more than one message.
        let mut company = true;
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.stop(Left::Shutdown).await,
                () = self.queue.control.until(true) => return self.stop(Left::Paused).await,
                delivery = self.consumer.next() => self.delivered(delivery)?,
            };
            let batch = self.fill(first, company).await?;
            company = batch.len() > 1;
            self.queue.process.process(&self.channel, &batch).await?;
            if let Some(last) = batch.last() {
                // One outstanding batch per channel, so this acknowledges exactly the batch.
                self.acknowledge(&last.delivery, true).await?;
            }
        }
    }

    /// Takes what has arrived; if `company` can be expected, also what arrives while the batch lingers.
    async fn fill(&mut self, first: Delivery, company: bool) -> Result<Vec<Item>, Ended> {
        let mut until = Instant::now();
        if company {
            until += self.queue.subscription.linger;
        }
        let mut batch = vec![Item {
            delivery: Arc::new(first),
            resent_as: None,
        }];
        while batch.len() < self.queue.subscription.batch.into() {
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
    ) -> Result<Left, Ended> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.stop(Left::Shutdown).await,
                () = self.queue.control.until(true) => return self.stop(Left::Paused).await,
                delivery = self.consumer.next() => {
                    mixer.add(self.delivered(delivery)?);
                    continue;
                }
                () = mixer.due() => {}
            }
            let batch = mixer.take(self.queue.subscription.batch.into());
            self.queue.process.process(&self.channel, &batch).await?;
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
        Ok(delivery.ok_or_else(|| Ended::Stream(self.queue.subscription.queue.clone()))??)
    }

    async fn acknowledge(&self, delivery: &Delivery, multiple: bool) -> Result<(), Ended> {
        if delivery.ack(BasicAckOptions { multiple }).await? {
            Ok(())
        } else {
            Err(Ended::Channel(self.queue.subscription.queue.clone()))
        }
    }

    /// Takes no more. What was handed over and not begun goes back to the queue with the channel.
    async fn stop(self, left: Left) -> Result<Left, Ended> {
        self.channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default())
            .await?;
        self.channel.close(200, "bye".into()).await?;
        Ok(left)
    }
}
