//! Consuming: one connection for all queues of a service, made again whenever it is lost.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use lapin::Connection;
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Publisher,
    batch::Processor,
    connection::{self, Link},
    control::{Control, Controls},
    handler::Handler,
    meter,
    parking::{Decoders, Drain, PublisherOf},
    queue::{Consuming, Queue},
    subscription::{Ended, Process, Subscription},
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
        );
        self.consumed
            .push((subscription, Box::new(processor), control));
        let parking = Drain::new(queue, self.pool.clone(), self.publisher.clone());
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

    /// Consumes until `shutdown`, then finishes the batches in hand, acknowledges them and closes. Reconnects with
    /// backoff whenever the connection is lost.
    ///
    /// A batch that is not finished 10 s after `shutdown` is abandoned, and delivered again later. So is everything
    /// unacknowledged if this is dropped; what a transaction had committed is known to the inbox.
    pub async fn run(self, shutdown: CancellationToken) {
        meter::describe();
        let mut delays = Backoff::RECONNECT.delays();
        while !shutdown.is_cancelled() {
            let ended = match connection::connect(&self.url, &self.name).await {
                Ok(connection) => {
                    let ended = self.session(&connection, &shutdown, &mut delays).await;
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
        shutdown: &CancellationToken,
        delays: &mut crate::backoff::Delays,
    ) -> Result<(), Ended> {
        let consuming = Consuming::new(self.consumed.len(), &self.up.0, &self.receiving.0);
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
            .map(|queue| queue.keep(shutdown))
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

/// Waits until 10 s after the shutdown began, so that a batch that waits for its database does not keep the process
/// from ending.
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
