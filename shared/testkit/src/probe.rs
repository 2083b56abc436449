//! A probe that sees every event, command and reply on a vhost, and publishes messages that a test makes up.

use std::sync::{Arc, Mutex, PoisonError};

use chassis::events::{COMMANDS, EXCHANGE, ORCHESTRATOR, Publishing, REPLIES, exchange_of};
use futures_util::StreamExt;
use holdfast::{
    messaging::{Event, Publisher},
    outbox::{Message, Outcome, Publisher as _},
};
use lapin::{
    Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Vhost, eventually};

/// The services that get commands from the orchestrator, and reply to it.
const PARTICIPANTS: [&str; 4] = ["order", "payment", "inventory", "notification"];

/// A message that was published on the vhost.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The family of its exchange: `events`, `commands` or `replies`, whichever service's.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// The message id.
    pub id: Uuid,
    /// The message's type.
    pub kind: String,
    /// The message's subject.
    pub subject: String,
    /// The headers that are text.
    pub headers: std::collections::BTreeMap<String, String>,
    /// The payload; null if it is not JSON.
    pub data: Value,
}

impl Seen {
    fn read(delivery: &Delivery) -> Self {
        let headers: std::collections::BTreeMap<String, String> = delivery
            .properties
            .headers()
            .iter()
            .flat_map(FieldTable::inner)
            .filter_map(|(name, value)| {
                let text = String::from_utf8_lossy(value.as_long_string()?.as_bytes()).into_owned();
                Some((name.as_str().to_owned(), text))
            })
            .collect();
        let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
        Self {
            exchange: family(delivery.exchange.as_str()).to_owned(),
            routing_key: delivery.routing_key.to_string(),
            id: header("cloudEvents_id").parse().unwrap_or_default(),
            kind: header("cloudEvents_type"),
            subject: header("cloudEvents_subject"),
            data: serde_json::from_slice(&delivery.data).unwrap_or(Value::Null),
            headers,
        }
    }

    /// Returns the idempotency key, if the message has one.
    pub fn key(&self) -> Option<&str> {
        self.headers
            .get("cloudEvents_idempotencykey")
            .map(String::as_str)
    }
}

/// A probe that sees every event, command and reply on a vhost, and publishes messages that a test makes up.
pub struct Probe {
    publisher: Publisher,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// The consumer ends with it.
    _connection: Connection,
}

impl Probe {
    /// Attaches a probe, which sees everything on the exchanges `events`, `commands` and `replies` from now on.
    pub async fn attach(vhost: &Vhost) -> Self {
        let url = vhost.url("admin");
        let connection = Connection::connect(&url, ConnectionProperties::default())
            .await
            .expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let name = own_queue(&channel).await;
        let commands = PARTICIPANTS.map(|service| (exchange_of(COMMANDS, ORCHESTRATOR), service));
        let replies = PARTICIPANTS.map(|service| (exchange_of(REPLIES, service), ORCHESTRATOR));
        let facts = (EXCHANGE.to_owned(), "#");
        let requests = (exchange_of(COMMANDS, "order"), ORCHESTRATOR);
        for (exchange, key) in [facts, requests].into_iter().chain(commands).chain(replies) {
            channel
                .queue_bind(
                    name.clone(),
                    exchange.as_str().into(),
                    key.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .expect("a binding");
        }
        let mut consumer = channel
            .basic_consume(
                name,
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a consumer");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let seen = Seen::read(&delivery);
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(seen);
                let _ = delivery.ack(BasicAckOptions::default()).await;
            }
        });
        Self {
            publisher: Publisher::new(url, "probe publisher"),
            seen,
            _connection: connection,
        }
    }

    /// Returns the messages about `subject` that were seen, in the order in which they came.
    pub fn seen(&self, subject: impl ToString) -> Vec<Seen> {
        let subject = subject.to_string();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|event| event.subject == subject)
            .cloned()
            .collect()
    }

    /// Returns the messages about `subject` that were seen on one exchange, in the order in which they came.
    pub fn seen_on(&self, exchange: &str, subject: impl ToString) -> Vec<Seen> {
        let mut seen = self.seen(subject);
        seen.retain(|event| event.exchange == exchange);
        seen
    }

    /// Returns the types of the messages about `subject`, in the order in which they came.
    pub fn kinds(&self, subject: impl ToString) -> Vec<String> {
        self.seen(subject)
            .into_iter()
            .map(|event| event.kind)
            .collect()
    }

    /// Returns the number of messages of this type that were seen.
    pub fn count(&self, kind: &str) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|event| event.kind == kind).count()
    }

    /// Waits until a message of this type about `subject` was seen, and returns the first.
    pub async fn wait_for(&self, kind: &str, subject: impl ToString) -> Seen {
        self.wait_for_nth(kind, subject, 1).await
    }

    /// Waits until `n` messages of this type about `subject` were seen, and returns the last of them.
    pub async fn wait_for_nth(&self, kind: &str, subject: impl ToString, n: usize) -> Seen {
        let subject = subject.to_string();
        eventually(&format!("{n} of {kind} about {subject}"), || async {
            let mut of_kind: Vec<Seen> = self
                .seen(&subject)
                .into_iter()
                .filter(|event| event.kind == kind)
                .collect();
            if of_kind.len() < n {
                Err(format!("{:?}", self.kinds(&subject)))
            } else {
                Ok(of_kind.swap_remove(n - 1))
            }
        })
        .await
    }

    /// Returns the replies that were seen under this key, in the order in which they came.
    pub fn replies(&self, key: &str) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|seen| seen.exchange == REPLIES && seen.key() == Some(key))
            .cloned()
            .collect()
    }

    /// Waits until a reply was seen under this key, and returns the first.
    pub async fn wait_for_reply(&self, key: &str) -> Seen {
        self.wait_for_nth_reply(key, 1).await
    }

    /// Waits until `n` replies were seen under this key, and returns the last of them.
    pub async fn wait_for_nth_reply(&self, key: &str, n: usize) -> Seen {
        eventually(&format!("{n} replies under {key}"), || async {
            let mut replies = self.replies(key);
            if replies.len() < n {
                let kinds: Vec<_> = replies.into_iter().map(|reply| reply.kind).collect();
                Err(format!("{kinds:?}"))
            } else {
                Ok(replies.swap_remove(n - 1))
            }
        })
        .await
    }

    /// Sends a typed message to the service `to`, as a command under `key`; returns its id.
    ///
    /// Uses the exchange that leads to the service, even for a message that is not a command.
    pub async fn command<M: contracts::Message>(&self, to: &str, message: &M, key: &str) -> Uuid {
        let source = M::TYPE.split('.').next().unwrap_or_default();
        let mut command = Publishing::by(source).command(message, to, key.to_owned());
        let asker = if to == ORCHESTRATOR {
            "order"
        } else {
            ORCHESTRATOR
        };
        command.exchange = exchange_of(COMMANDS, asker);
        let id = command.id;
        self.send(command).await;
        id
    }

    /// Publishes a typed message on `events`, as choreography would; returns its id.
    pub async fn publish<M: contracts::Message>(&self, message: &M) -> Uuid {
        let source = M::TYPE.split('.').next().unwrap_or_default();
        let data = serde_json::to_vec(message).expect("messages serialize");
        let event = Event::new(
            M::TYPE,
            &format!("/{source}"),
            message.order_id().to_string(),
            data,
        );
        let id = event.id;
        self.send(event.into_message("events", format!("choreography.{}", M::TYPE)))
            .await;
        id
    }

    /// Publishes any message to any exchange.
    pub async fn send(&self, message: Message) {
        let outcomes = self.publisher.publish(std::slice::from_ref(&message)).await;
        assert_eq!(outcomes, [Outcome::Confirmed], "{message:?}");
    }

    /// Publishes many messages at once.
    pub async fn send_all(&self, messages: &[Message]) {
        let outcomes = self.publisher.publish(messages).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == Outcome::Confirmed),
            "{outcomes:?}"
        );
    }
}

/// Declares a queue that ends with its connection, and returns its name.
pub(crate) async fn own_queue(channel: &Channel) -> ShortString {
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    channel
        .queue_declare("".into(), exclusive, FieldTable::default())
        .await
        .expect("a queue")
        .name()
        .clone()
}

/// Returns `commands` for each service's exchange of commands, and `replies` for each service's exchange of replies.
pub(crate) fn family(exchange: &str) -> &str {
    exchange.split('.').next().unwrap_or(exchange)
}
