//! Consuming: one connection, a channel for each queue, and one batch at a time on each channel.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{
        BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicGetOptions,
        BasicNackOptions, BasicQosOptions,
    },
    types::{AMQPValue, FieldTable, ShortString},
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
    parking::{Decoders, Drain, PublisherOf},
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
    decoders: Decoders,
    up: (watch::Sender<bool>, Link),
    receiving: (watch::Sender<bool>, Link),
}

impl Consumers {
    /// Makes consumers that use one connection called `name`. `publisher` sends messages that cannot be handled to the
    /// delays and the parking lot; `pool` is the database of inbox and effects.
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
            decoders: Decoders::default(),
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
        let handler = Arc::new(handler);
        self.decoders.add(&queue, &handler);
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

    /// Sets the function that names the source of each type. A requeued message gets that source if its envelope lacks
    /// one, or if the operator changed its type; without a known source a missing one becomes `/operator`. Call it
    /// before [`Consumers::decoders`].
    #[must_use]
    pub fn with_publishers(mut self, publisher_of: PublisherOf) -> Self {
        self.decoders.set_publisher_of(publisher_of);
        self
    }

    /// Returns the decoders of all queues, also of those that are added later, to check an operator's edits.
    pub fn decoders(&self) -> Decoders {
        self.decoders.clone()
    }

    /// Returns the switches that pause a queue. Dead-letter queues have none: messages that cannot be handled are
    /// parked even while their queue is paused.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// Returns a link that is up while every queue is consumed, apart from those that an operator paused.
    pub fn link(&self) -> Link {
        self.up.1.clone()
    }

    /// Returns a link that is up while every queue is consumed, and none is paused. While it is down, a reply that is
    /// overdue may be waiting in its queue.
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

    /// Consumes on one connection for as long as it lasts. `Ok` is shutdown.
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
        // A connection that fails ends the session. The queues are dropped where they are: a transaction rolls back,
        // and a commit whose reply is lost is known to the inbox when the message is delivered again.
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

/// The number of a session's queues that are consumed.
struct Consuming<'a> {
    wanted: usize,
    /// The number of open queues, and of paused ones. A std lock: held for a count, never across an await.
    queues: Mutex<(usize, usize)>,
    up: &'a watch::Sender<bool>,
    receiving: &'a watch::Sender<bool>,
}

impl Consuming<'_> {
    /// Counts one queue more, for as long as the returned guard lives.
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

/// Returns 10 s after shutdown began: a batch that waits for its database does not hold up the process for ever.
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

impl<'a> Queue<'a> {
    /// Consumes the queue for as long as there is a connection. A queue that does not exist, or that this account may
    /// not read, closes its own channel, and the other queues go on. `Ok` is shutdown.
    async fn keep(self, chaos: Option<&Chaos>, shutdown: &CancellationToken) -> Result<(), Ended> {
        let mut delays = Backoff::RECONNECT.delays();
        loop {
            // A fresh mixer for each channel: the broker delivers again what the last one held.
            let mixer = chaos.map(Mixer::new);
            let ended = match self.serve(mixer, shutdown, &mut delays).await {
                Ok(Left::Paused) => match self.paused(shutdown).await {
                    Some(()) => continue,
                    None => return Ok(()),
                },
                Ok(Left::Shutdown | Left::Suspect) => return Ok(()),
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

    /// Consumes the queue on a channel of its own: carefully at first, then in batches, and carefully again when a
    /// suspect comes.
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
        if let Some(mixer) = mixer {
            let opened = self.open(channel).await?;
            let _counted = self.consuming.one(false);
            delays.reset();
            return opened.run_with(mixer, shutdown).await;
        }
        let mut head = self.get(&channel).await?;
        let _counted = self.consuming.one(false);
        info!(queue = self.subscription.queue, "consuming");
        delays.reset();
        loop {
            if let Some(left) = self.carefully(&channel, head, shutdown).await? {
                channel.close(200, "bye".into()).await?;
                return Ok(left);
            }
            let opened = self.open(channel.clone()).await?;
            match opened.run(shutdown).await? {
                Left::Suspect => head = self.get(&channel).await?,
                left => return Ok(left),
            }
        }
    }

    async fn open(self, channel: Channel) -> Result<Opened<'a>, Ended> {
        let consumer = open(&channel, self.subscription).await?;
        Ok(Opened {
            queue: self,
            channel,
            consumer,
            arrived: VecDeque::new(),
        })
    }

    /// Handles `head` and the messages after it one by one, with nothing else in hand, until one of them is no suspect
    /// or the queue is empty. Returns `Some` if the queue is to be left.
    async fn carefully(
        &self,
        channel: &Channel,
        mut head: Option<Delivery>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Left>, Ended> {
        while let Some(delivery) = head {
            let was_suspect = is_suspect(&delivery);
            if was_suspect {
                warn!(
                    queue = self.subscription.queue,
                    "was in hand before and not acknowledged; it is handled alone"
                );
            }
            let item = Item::new(delivery);
            let alone = std::slice::from_ref(&item);
            self.process.process(channel, alone).await?;
            self.acknowledge(&item.delivery, false).await?;
            if !was_suspect {
                break;
            }
            if shutdown.is_cancelled() {
                return Ok(Some(Left::Shutdown));
            }
            if self.control.is_paused() {
                return Ok(Some(Left::Paused));
            }
            head = self.get(channel).await?;
        }
        Ok(None)
    }

    /// Takes the first message of the queue, if there is one.
    async fn get(&self, channel: &Channel) -> Result<Option<Delivery>, Ended> {
        let queue = ShortString::from(self.subscription.queue.as_str());
        let got = channel.basic_get(queue, BasicGetOptions::default()).await?;
        Ok(got.map(|got| got.delivery))
    }

    async fn acknowledge(&self, delivery: &Delivery, multiple: bool) -> Result<(), Ended> {
        if delivery.ack(BasicAckOptions { multiple }).await? {
            Ok(())
        } else {
            Err(Ended::Channel(self.subscription.queue.clone()))
        }
    }

    /// Waits until the queue is no longer paused; `None` is shutdown.
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

/// A reason to leave a queue in good order.
enum Left {
    Shutdown,
    /// An operator paused the queue.
    Paused,
    /// A message arrived that may kill its consumer. Nothing is in hand any more; the channel is open.
    Suspect,
}

/// The number of deliveries without an acknowledgement from which on a message is a suspect: it may be what kills its
/// consumer, and is handled alone, so that its next failure counts against no neighbour. The first such delivery is
/// forgiven, because every lost connection leaves up to a prefetch of them.
const SUSPECT: i64 = 2;

/// Returns whether a message may be what killed its consumers.
fn is_suspect(delivery: &Delivery) -> bool {
    let headers = delivery.properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    count
        .and_then(AMQPValue::as_long_long_int)
        .is_some_and(|count| count >= SUSPECT)
}

/// One queue on one channel.
struct Opened<'a> {
    queue: Queue<'a>,
    channel: Channel,
    consumer: Consumer,
    /// Deliveries that came while a batch was being handled.
    arrived: VecDeque<Delivery>,
}

impl Opened<'_> {
    async fn run(mut self, shutdown: &CancellationToken) -> Result<Left, Ended> {
        // Set if the last batch had more than one message.
        let mut company = true;
        loop {
            let first = tokio::select! {
                biased;
                () = shutdown.cancelled() => return self.stop(Left::Shutdown).await,
                () = self.queue.control.until(true) => return self.stop(Left::Paused).await,
                delivery = self.next() => delivery?,
            };
            let batch = self.fill(first, company).await?;
            company = batch.len() > 1;
            if let Some(last) = batch.last() {
                self.process(&batch).await?;
                // One outstanding batch per channel, so this acknowledges exactly the batch.
                self.queue.acknowledge(&last.delivery, true).await?;
            }
            if self.arrived.front().is_some_and(is_suspect) {
                return self.hand_back().await;
            }
        }
    }

    /// Takes the deliveries that have arrived; if `company` can be expected, also those that arrive while the batch
    /// lingers. Stops before a suspect, which stays the first of the arrived.
    async fn fill(&mut self, first: Delivery, company: bool) -> Result<Vec<Item>, Ended> {
        let mut until = Instant::now();
        if company {
            until += self.queue.subscription.linger;
        }
        let mut batch = Vec::new();
        let mut next = first;
        loop {
            if is_suspect(&next) {
                self.arrived.push_front(next);
                return Ok(batch);
            }
            batch.push(Item::new(next));
            if batch.len() >= self.queue.subscription.batch.into() {
                return Ok(batch);
            }
            match timeout_at(until, self.next()).await {
                Err(_) => return Ok(batch),
                Ok(delivery) => next = delivery?,
            }
        }
    }

    /// Handles a batch for as long as the consumer lives.
    ///
    /// When the broker ends the consumer (its consumer timeout, a queue that is deleted or moved), the batch belongs to
    /// another consumer. From then on it must not be acknowledged: on a channel that stays open, that would delete
    /// messages that the other one is handling. So the work is dropped where it is: its transaction rolls back, or the
    /// inbox knows what committed.
    async fn process(&mut self, batch: &[Item]) -> Result<(), Ended> {
        let (queue, channel) = (self.queue, self.channel.clone());
        tokio::select! {
            biased;
            ended = self.end() => Err(ended),
            done = queue.process.process(&channel, batch) => done,
        }
    }

    /// Waits for the consumer's end, and keeps what arrives meanwhile. Cancel safe.
    async fn end(&mut self) -> Ended {
        loop {
            match self.receive().await {
                Ok(delivery) => self.arrived.push_back(delivery),
                Err(ended) => return ended,
            }
        }
    }

    /// Returns the next delivery. Cancel safe.
    async fn next(&mut self) -> Result<Delivery, Ended> {
        match self.arrived.pop_front() {
            Some(delivery) => Ok(delivery),
            None => self.receive().await,
        }
    }

    async fn receive(&mut self) -> Result<Delivery, Ended> {
        let delivery = self.consumer.next().await;
        Ok(delivery.ok_or_else(|| Ended::Stream(self.queue.subscription.queue.clone()))??)
    }

    /// Runs like [`Self::run`], but through a [`Mixer`]. Acknowledges a delivery when its last copy has been handled.
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
                delivery = self.next() => {
                    mixer.add(delivery?);
                    continue;
                }
                () = mixer.due() => {}
            }
            let batch = mixer.take(self.queue.subscription.batch.into());
            self.process(&batch).await?;
            for Item { delivery, .. } in batch {
                if Arc::strong_count(&delivery) == 1 {
                    self.queue.acknowledge(&delivery, false).await?;
                }
            }
        }
    }

    /// Stops consuming. Deliveries that were not begun return to the queue when the channel closes.
    async fn stop(self, left: Left) -> Result<Left, Ended> {
        self.channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default())
            .await?;
        self.channel.close(200, "bye".into()).await?;
        Ok(left)
    }

    /// Stops consuming and requeues everything unacknowledged, in one place in the channel's order: a later `basic.get`
    /// on it finds those messages in the queue again.
    async fn hand_back(self) -> Result<Left, Ended> {
        self.channel
            .basic_cancel(self.consumer.tag(), BasicCancelOptions::default())
            .await?;
        let everything = 0;
        self.channel
            .basic_nack(
                everything,
                BasicNackOptions {
                    multiple: true,
                    requeue: true,
                },
            )
            .await?;
        Ok(Left::Suspect)
    }
}
