//! Watching published messages without taking part.

use futures_util::StreamExt;
use lapin::{
    Channel, Connection,
    options::{BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Incoming,
    connection::{self, Link},
    event::text_headers,
    subscription::Ended,
};
use crate::backoff::Backoff;

/// The most messages that the observer's queue holds; older ones are dropped.
const MOST: i32 = 10_000;

/// One thing that an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// The observer is attached: from now on it sees the messages, until the next `Attached`. Read what was published
    /// before from the owner of the state.
    Attached,
    /// A message was published.
    Event {
        /// The exchange that it was published to.
        exchange: String,
        /// The routing key that it was published under.
        routing_key: String,
        /// The message itself.
        event: Box<Incoming>,
    },
}

/// The messages to watch: those that are published to an exchange under the routing keys that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch<'a> {
    /// The exchange's name; it exists already.
    pub exchange: &'a str,
    /// The binding key: a pattern on a topic exchange, `#` being everything; one key on a direct one.
    pub key: &'a str,
}

/// A watcher of messages that are published to exchanges. It may miss some of them.
///
/// Its queue is its own: exclusive, gone with the connection, and bounded; what does not fit is dropped. The broker
/// counts a delivery as acknowledged when it is sent. So an observer misses messages while it is not connected, and
/// while they come faster than it reads. A program that shows what an observer sees must read the true state from its
/// owner now and then. No work depends on an observer, and an observer delays none.
#[derive(Debug)]
pub struct Observer {
    url: String,
    name: String,
    prefix: String,
    up: watch::Sender<bool>,
    link: Link,
}

impl Observer {
    /// Makes an observer that uses a connection called `name`, and queues called `PREFIX.UUID`.
    pub fn new(url: impl Into<String>, name: impl Into<String>, prefix: impl Into<String>) -> Self {
        let (up, link) = Link::new();
        Self {
            url: url.into(),
            name: name.into(),
            prefix: prefix.into(),
            up,
            link,
        }
    }

    /// Returns a link that is up while the observer sees messages.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Calls `see` for every message that matches `watched`, until `shutdown`; once for a message that matches several
    /// of them on one exchange. Leaves out messages whose envelope cannot be read: the consumer that handles them parks
    /// them. Reconnects with backoff. If it is dropped, its queue and the messages in it are deleted.
    pub async fn run(
        self,
        watched: &[Watch<'_>],
        shutdown: CancellationToken,
        mut see: impl FnMut(Sighting) + Send,
    ) {
        let mut delays = Backoff::RECONNECT.delays();
        while !shutdown.is_cancelled() {
            let ended = match connection::connect(&self.url, &self.name).await {
                Ok(connection) => {
                    let session = self.session(&connection, watched, &mut delays, &mut see);
                    let ended = shutdown.run_until_cancelled(session).await;
                    self.up.send_replace(false);
                    connection::close(&connection, "bye").await;
                    ended.and_then(Result::err).map(|ended| ended.to_string())
                }
                Err(error) => Some(error),
            };
            if let Some(error) = ended {
                warn!(observer = self.name, %error, "lost the broker");
                shutdown.run_until_cancelled(delays.wait()).await;
            }
        }
    }

    /// Watches on one connection for as long as it lasts.
    async fn session(
        &self,
        connection: &Connection,
        watched: &[Watch<'_>],
        delays: &mut crate::backoff::Delays,
        see: &mut (impl FnMut(Sighting) + Send),
    ) -> Result<(), Ended> {
        // A new name each time: the broker may not have noticed yet that the owner of the last one is gone.
        let queue = format!("{}.{}", self.prefix, Uuid::now_v7());
        let channel = connection.create_channel().await?;
        declare(&channel, &queue, watched).await?;
        let taken = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let mut consumer = channel
            .basic_consume(
                queue.as_str().into(),
                ShortString::default(),
                taken,
                FieldTable::default(),
            )
            .await?;
        info!(observer = self.name, queue, "watching");
        self.up.send_replace(true);
        delays.reset();
        see(Sighting::Attached);
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery?;
            if let Ok(event) = Incoming::read(&delivery, text_headers(&delivery)) {
                see(Sighting::Event {
                    exchange: delivery.exchange.to_string(),
                    routing_key: delivery.routing_key.to_string(),
                    event: Box::new(event),
                });
            }
        }
        Err(Ended::Stream(queue))
    }
}

/// Declares an observer's own queue, and binds it to what is watched.
async fn declare(channel: &Channel, queue: &str, watched: &[Watch<'_>]) -> Result<(), Ended> {
    let mut bounds = FieldTable::default();
    bounds.insert("x-max-length".into(), AMQPValue::LongInt(MOST));
    bounds.insert(
        "x-overflow".into(),
        AMQPValue::LongString("drop-head".into()),
    );
    let own = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    channel.queue_declare(queue.into(), own, bounds).await?;
    for Watch { exchange, key } in watched {
        channel
            .queue_bind(
                queue.into(),
                (*exchange).into(),
                (*key).into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await?;
    }
    Ok(())
}
