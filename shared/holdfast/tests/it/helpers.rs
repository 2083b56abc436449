//! A service made of the patterns alone: a database with outbox, inbox and parking lot, and a table of effects.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use holdfast::{
    inbox,
    messaging::{
        self, Consumers, Error, Event, Handler, Incoming, Publisher, Received, Subscription,
        Undecodable,
    },
    outbox::{self, Message},
};
use serde_json::{Value, json};
use sqlx::{PgConnection, PgPool};
use testkit::{Database, Vhost, eventually};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The queue that the tests consume.
pub(crate) const QUEUE: &str = "payment.choreography";
/// A type of message that is routed to the queue, and to the timeline.
pub(crate) const KIND: &str = "order.created.v1";

/// Creates a database with the tables of the patterns and a table of effects.
pub(crate) async fn database(label: &str) -> (Database, PgPool) {
    let database = Database::create(label).await;
    let pool = database.pool();
    for migrator in [outbox::migrator(), inbox::migrator(), messaging::migrator()] {
        migrator.run(&pool).await.expect("the migrations run");
    }
    // The message id is not a key, so that an effect that happens twice is seen.
    sqlx::query(
        "create table effect (message_id uuid not null, label text not null, batch uuid not null)",
    )
    .execute(&pool)
    .await
    .expect("a table");
    (database, pool)
}

/// Returns a message for the queue, with the action that the handler takes.
pub(crate) fn message(label: &str, behave: &str) -> Message {
    let data = json!({ "order_id": Uuid::now_v7(), "label": label, "do": behave });
    raw(KIND, &data)
}

/// Returns a message of any type and payload.
pub(crate) fn raw(kind: &str, data: &Value) -> Message {
    let subject = data["order_id"].as_str().unwrap_or_default().to_owned();
    let event = Event::new(kind, "/order", subject, data.to_string().into_bytes());
    event.into_message("events", format!("choreography.{kind}"))
}

/// A handler that writes an effect for each message, or takes the action in the message.
#[derive(Clone)]
pub(crate) struct Effects {
    /// The number of times that a message with a counted behaviour was handled.
    pub(crate) attempts: Arc<AtomicU32>,
}

impl Effects {
    pub(crate) fn new() -> Self {
        Self {
            attempts: Arc::default(),
        }
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::SeqCst)
    }
}

pub(crate) struct Asked {
    pub(crate) label: String,
    pub(crate) behave: String,
}

pub(crate) fn decode(event: &Incoming) -> Result<Asked, Undecodable> {
    if event.kind != KIND {
        return Err(Undecodable::UnknownType(event.kind.clone()));
    }
    let data: Value = serde_json::from_slice(&event.data)
        .map_err(|error| Undecodable::Malformed(error.to_string()))?;
    match (data["label"].as_str(), data["do"].as_str()) {
        (_, Some("panic early")) => panic!("a decoder that does not expect this"),
        (Some(label), Some(behave)) => Ok(Asked {
            label: label.to_owned(),
            behave: behave.to_owned(),
        }),
        _ => Err(Undecodable::Malformed("label or do is missing".to_owned())),
    }
}

impl Handler for Effects {
    type Command = Asked;
    type Effect = ();

    fn decode(&self, event: &Incoming) -> Result<Asked, Undecodable> {
        decode(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Asked>],
    ) -> Result<(), Error> {
        let batch_id = Uuid::now_v7();
        for Received { event, command, .. } in batch {
            sqlx::query("insert into effect (message_id, label, batch) values ($1, $2, $3)")
                .bind(event.id)
                .bind(&command.label)
                .bind(batch_id)
                .execute(&mut *conn)
                .await?;
            match command.behave.as_str() {
                "work" => {}
                "fail" => {
                    self.attempts.fetch_add(1, Ordering::SeqCst);
                    return Err(Error::Failed("it always does".into()));
                }
                "fail twice" => {
                    if self.attempts.fetch_add(1, Ordering::SeqCst) < 2 {
                        return Err(Error::Failed("it does twice".into()));
                    }
                }
                "panic" => panic!("an index out of bounds, say"),
                "reject" => return Err(Error::rejected("that must not be")),
                "conflict five times" => {
                    if self.attempts.fetch_add(1, Ordering::SeqCst) < 5 {
                        return Err(Error::conflict("somebody was faster"));
                    }
                }
                other => return Err(Error::rejected(format!("what is {other:?}?"))),
            }
        }
        Ok(())
    }

    fn committed(&self, _: Option<()>) {}
}

/// A running consumer. [`Running::stop`] stops it in good order.
pub(crate) struct Running {
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<()>,
    pub(crate) link: messaging::Link,
    pub(crate) receiving: messaging::Link,
    pub(crate) controls: messaging::Controls,
    pub(crate) decoders: messaging::parking::Decoders,
    publisher: Publisher,
}

/// Consumes the queue into `pool`, and waits until the consumer is connected.
pub(crate) async fn consume(url: &str, pool: &PgPool, handler: impl Handler) -> Running {
    let running = consume_without_waiting(url, pool, handler);
    running.link.up().await;
    running
}

/// Consumes these queues into `pool` on one connection, without waiting for it.
pub(crate) fn consume_all(
    url: &str,
    pool: &PgPool,
    queues: &[&str],
    handler: impl Handler + Clone,
) -> Running {
    let publisher = Publisher::new(url, "test publisher");
    let mut consumers = Consumers::new(url, "test consumer", publisher.clone(), pool.clone());
    for queue in queues {
        consumers = consumers.consume(Subscription::new(*queue), handler.clone());
    }
    Running::start(consumers, publisher)
}

/// Consumes the queue into `pool`, without waiting for the connection.
pub(crate) fn consume_without_waiting(url: &str, pool: &PgPool, handler: impl Handler) -> Running {
    consume_as(url, pool, Subscription::new(QUEUE), handler)
}

/// Consumes a queue into `pool` with settings of its own.
pub(crate) fn consume_as(
    url: &str,
    pool: &PgPool,
    subscription: Subscription,
    handler: impl Handler,
) -> Running {
    let publisher = Publisher::new(url, "test publisher");
    let consumers = Consumers::new(url, "test consumer", publisher.clone(), pool.clone())
        .consume(subscription, handler);
    Running::start(consumers, publisher)
}

impl Running {
    fn start(consumers: Consumers, publisher: Publisher) -> Self {
        let shutdown = CancellationToken::new();
        let (link, receiving) = (consumers.link(), consumers.receiving());
        let (controls, decoders) = (consumers.controls(), consumers.decoders());
        let task = tokio::spawn(consumers.run(shutdown.clone()));
        Self {
            shutdown,
            task,
            link,
            receiving,
            controls,
            decoders,
            publisher,
        }
    }

    /// Ends the consumer as the death of its process would, except for the connection, which the test must cut.
    pub(crate) fn kill(self) {
        self.task.abort();
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.task.await.expect("the consumer does not panic");
        self.publisher.close().await;
    }
}

/// Returns the labels of the effects, sorted.
pub(crate) async fn effects(pool: &PgPool) -> Vec<String> {
    sqlx::query_scalar("select label from effect order by label")
        .fetch_all(pool)
        .await
        .expect("the table is there")
}

/// Waits until the effects are these and no others.
pub(crate) async fn wait_for_effects(pool: &PgPool, labels: &[&str]) {
    eventually(&format!("effects {labels:?}"), || async {
        let seen = effects(pool).await;
        if seen == labels {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}

/// Waits until the queue, its delay queues and its dead-letter queue are empty.
pub(crate) async fn wait_for_empty(vhost: &Vhost) {
    eventually("empty queues", || async {
        for queue in [
            QUEUE.to_owned(),
            format!("{QUEUE}.retry.1"),
            format!("{QUEUE}.retry.4"),
            format!("{QUEUE}.dead"),
        ] {
            let depth = vhost.depth(&queue).await;
            if depth.ready + depth.unacknowledged > 0 {
                return Err(format!("{queue}: {depth:?}"));
            }
        }
        Ok(())
    })
    .await;
}
