//! Watching what is published, for as long as one looks, without taking part.

use futures_util::StreamExt;
use lapin::{
    Connection,
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
    subscription::Ended,
};
use crate::backoff::Backoff;

/// What the observer's queue holds, at most, in messages; older ones are dropped.
const MOST: i32 = 10_000;

/// What an observer sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sighting {
    /// From now on it sees everything, until the next of these. What was published before, it has to ask somebody for.
    Attached,
    /// A message was published.
    Event {
        /// To this exchange,
        exchange: String,
        /// under this routing key.
        routing_key: String,
        /// What it is.
        event: Box<Incoming>,
    },
}

/// Something to see: what is published to an exchange under the routing keys that fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch<'a> {
    /// The exchange.
    pub exchange: &'a str,
    /// As it is bound: a pattern, `#` being everything, on a topic exchange; one key on a direct one.
    pub key: &'a str,
}

/// Sees what is published to exchanges, and promises nothing to the publisher.
///
/// Its queue is its own: exclusive, gone with the connection, bounded, and what does not fit is dropped. Deliveries are
/// acknowledged by being sent. So it may miss messages: while it is away, and when it is slower than they come. Who
/// shows what it sees must ask an authority now and then. Nobody's work depends on an observer, and it can hold up nobody.
#[derive(Debug)]
pub struct Observer {
    url: String,
    name: String,
    prefix: String,
    up: watch::Sender<bool>,
    link: Link,
}

impl Observer {
    /// An observer on a connection under `name`, whose queues are called `PREFIX.UUID`.
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

    /// Whether it sees.
    pub fn link(&self) -> Link {
        self.link.clone()
    }

    /// Tells `see` of everything in `watched`, until `shutdown`; of what fits several of them on one exchange once. Messages
    /// whose envelope cannot be read are left out: whoever handles them parks them.
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

    /// One connection's life.
    async fn session(
        &self,
        connection: &Connection,
        watched: &[Watch<'_>],
        delays: &mut crate::backoff::Delays,
        see: &mut (impl FnMut(Sighting) + Send),
    ) -> Result<(), Ended> {
        // A new name each time: the broker may not have noticed yet that the owner of the last one is gone.
        let queue = format!("{}.{}", self.prefix, Uuid::now_v7());
        let named = || ShortString::from(queue.as_str());
        let channel = connection.create_channel().await?;
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
        channel.queue_declare(named(), own, bounds).await?;
        for Watch { exchange, key } in watched {
            channel
                .queue_bind(
                    named(),
                    (*exchange).into(),
                    (*key).into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await?;
        }
        let taken = BasicConsumeOptions {
            no_ack: true,
            exclusive: true,
            ..BasicConsumeOptions::default()
        };
        let mut consumer = channel
            .basic_consume(
                named(),
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
            if let Ok(event) = Incoming::read(&delivery) {
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
