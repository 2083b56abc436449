//! One queue of a session with the broker: carefully at first, then in batches.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use lapin::{Channel, Connection, types::AMQPValue};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

#[cfg(feature = "failpoints")]
use super::chaos::Deliveries;
#[cfg(not(feature = "failpoints"))]
use super::deliveries::Deliveries;
use super::{
    control::Control,
    deliveries::acknowledge,
    meter::Paused,
    subscription::{Ended, Item, Process, Subscription},
};
use crate::backoff::Backoff;

/// The number of a session's queues that are consumed.
pub(super) struct Consuming<'a> {
    wanted: usize,
    /// The number of open queues, and of paused ones. A std lock: held for a count, never across an await.
    queues: Mutex<(usize, usize)>,
    up: &'a watch::Sender<bool>,
    receiving: &'a watch::Sender<bool>,
}

impl<'a> Consuming<'a> {
    /// Counts the open queues of a session with `wanted` queues, and sets these links by the count.
    pub(super) fn new(
        wanted: usize,
        up: &'a watch::Sender<bool>,
        receiving: &'a watch::Sender<bool>,
    ) -> Self {
        let consuming = Self {
            wanted,
            queues: Mutex::default(),
            up,
            receiving,
        };
        consuming.add(0, false);
        consuming
    }

    /// Counts one more queue, until the returned guard is dropped.
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

/// One queue of a session.
#[derive(Clone, Copy)]
pub(super) struct Queue<'a> {
    pub(super) subscription: &'a Subscription,
    pub(super) process: &'a dyn Process,
    pub(super) control: &'a Control,
    pub(super) connection: &'a Connection,
    pub(super) consuming: &'a Consuming<'a>,
}

impl<'a> Queue<'a> {
    /// Consumes the queue for as long as there is a connection. A queue that does not exist, or that this account may
    /// not read, closes its own channel, and the other queues go on. `Ok` is shutdown.
    pub(super) async fn keep(self, shutdown: &CancellationToken) -> Result<(), Ended> {
        let mut delays = Backoff::RECONNECT.delays();
        loop {
            let ended = match self.serve(shutdown, &mut delays).await {
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
        shutdown: &CancellationToken,
        delays: &mut crate::backoff::Delays,
    ) -> Result<Left, Ended> {
        if self.control.is_paused() {
            return Ok(Left::Paused);
        }
        let channel = self.connection.create_channel().await?;
        let mut head = self.head(&channel).await?;
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
                Left::Suspect => head = self.head(&channel).await?,
                left => return Ok(left),
            }
        }
    }

    async fn open(self, channel: Channel) -> Result<Opened<'a>, Ended> {
        Ok(Opened {
            queue: self,
            deliveries: Deliveries::open(channel, self.subscription).await?,
            arrived: VecDeque::new(),
        })
    }

    /// Handles `head` and the messages after it one by one, with nothing else in hand, until one of them is no suspect
    /// or the queue is empty. Returns `Some` if the queue is to be left.
    async fn carefully(
        &self,
        channel: &Channel,
        mut head: Option<Item>,
        shutdown: &CancellationToken,
    ) -> Result<Option<Left>, Ended> {
        while let Some(item) = head {
            let was_suspect = is_suspect(&item);
            if was_suspect {
                warn!(
                    queue = self.subscription.queue,
                    "was in hand before and not acknowledged; it is handled alone"
                );
            }
            let alone = std::slice::from_ref(&item);
            self.process.process(channel, alone).await?;
            acknowledge(&self.subscription.queue, &item, false).await?;
            if !was_suspect {
                break;
            }
            if shutdown.is_cancelled() {
                return Ok(Some(Left::Shutdown));
            }
            if self.control.is_paused() {
                return Ok(Some(Left::Paused));
            }
            head = self.head(channel).await?;
        }
        Ok(None)
    }

    /// Takes the first message of the queue, if there is one.
    async fn head(&self, channel: &Channel) -> Result<Option<Item>, Ended> {
        Deliveries::head(channel, &self.subscription.queue).await
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
fn is_suspect(item: &Item) -> bool {
    let headers = item.delivery.properties.headers().as_ref();
    let count = headers.and_then(|headers| headers.inner().get("x-delivery-count"));
    count
        .and_then(AMQPValue::as_long_long_int)
        .is_some_and(|count| count >= SUSPECT)
}

/// One queue on one channel.
struct Opened<'a> {
    queue: Queue<'a>,
    deliveries: Deliveries,
    /// Deliveries that came while a batch was being handled.
    arrived: VecDeque<Item>,
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
            if !batch.is_empty() {
                self.process(&batch).await?;
                self.deliveries.acknowledge(&batch).await?;
            }
            if self.arrived.front().is_some_and(is_suspect) {
                self.deliveries.hand_back().await?;
                return Ok(Left::Suspect);
            }
        }
    }

    /// Takes the deliveries that have arrived; with `company`, which means that more can be expected, also those that
    /// arrive while the batch lingers. Stops before a suspect, which stays the first of the arrived.
    async fn fill(&mut self, first: Item, company: bool) -> Result<Vec<Item>, Ended> {
        let until = if company {
            self.queue.subscription.lingers_until()
        } else {
            Instant::now()
        };
        let mut batch = Vec::new();
        let mut next = first;
        loop {
            if is_suspect(&next) {
                self.arrived.push_front(next);
                return Ok(batch);
            }
            batch.push(next);
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
        let (queue, channel) = (self.queue, self.deliveries.channel().clone());
        tokio::select! {
            biased;
            ended = self.end() => Err(ended),
            done = queue.process.process(&channel, batch) => done,
        }
    }

    /// Waits for the consumer's end, and keeps what arrives meanwhile. Cancel safe.
    async fn end(&mut self) -> Ended {
        loop {
            match self.deliveries.next().await {
                Ok(item) => self.arrived.push_back(item),
                Err(ended) => return ended,
            }
        }
    }

    /// Returns the next delivery. Cancel safe.
    async fn next(&mut self) -> Result<Item, Ended> {
        match self.arrived.pop_front() {
            Some(item) => Ok(item),
            None => self.deliveries.next().await,
        }
    }

    /// Stops consuming. Deliveries that were not begun return to the queue.
    async fn stop(self, left: Left) -> Result<Left, Ended> {
        self.deliveries.close().await?;
        Ok(left)
    }
}
