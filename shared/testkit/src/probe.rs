//! Sees every event on a vhost, and publishes what a test makes up.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use holdfast::{
    messaging::{Event, Publisher},
    outbox::{Message, Outcome, Publisher as _},
};
use lapin::{
    Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Vhost, eventually};

/// An event that was published on the vhost.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The routing key.
    pub routing_key: String,
    /// The message id.
    pub id: Uuid,
    /// The type.
    pub kind: String,
    /// What it is about.
    pub subject: String,
    /// The headers that are text.
    pub headers: std::collections::BTreeMap<String, String>,
    /// The payload; null if it is no JSON.
    pub data: Value,
}

/// Sees every event on a vhost, and publishes what a test makes up.
pub struct Probe {
    publisher: Publisher,
    seen: Arc<Mutex<Vec<Seen>>>,
    /// The consumer ends with it.
    _connection: Connection,
}

impl Probe {
    /// Sees everything on the exchange `events` from now on.
    pub async fn attach(vhost: &Vhost) -> Self {
        let url = vhost.url("admin");
        let connection = Connection::connect(&url, ConnectionProperties::default())
            .await
            .expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            auto_delete: true,
            ..QueueDeclareOptions::default()
        };
        let queue = channel
            .queue_declare("".into(), exclusive, FieldTable::default())
            .await
            .expect("a queue");
        let name = queue.name().clone();
        channel
            .queue_bind(
                name.clone(),
                "events".into(),
                "#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a binding");
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
                let headers: std::collections::BTreeMap<String, String> = delivery
                    .properties
                    .headers()
                    .iter()
                    .flat_map(FieldTable::inner)
                    .filter_map(|(name, value)| {
                        let text = String::from_utf8_lossy(value.as_long_string()?.as_bytes())
                            .into_owned();
                        Some((name.as_str().to_owned(), text))
                    })
                    .collect();
                let header = |name: &str| headers.get(name).cloned().unwrap_or_default();
                let event = Seen {
                    routing_key: delivery.routing_key.to_string(),
                    id: header("cloudEvents_id").parse().unwrap_or_default(),
                    kind: header("cloudEvents_type"),
                    subject: header("cloudEvents_subject"),
                    data: serde_json::from_slice(&delivery.data).unwrap_or(Value::Null),
                    headers,
                };
                sink.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(event);
                let _ = delivery.ack(BasicAckOptions::default()).await;
            }
        });
        Self {
            publisher: Publisher::new(url, "probe publisher"),
            seen,
            _connection: connection,
        }
    }

    /// What was seen of `subject`, in the order in which it came.
    pub fn seen(&self, subject: impl ToString) -> Vec<Seen> {
        let subject = subject.to_string();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter()
            .filter(|event| event.subject == subject)
            .cloned()
            .collect()
    }

    /// The types that were seen of `subject`, in the order in which they came.
    pub fn kinds(&self, subject: impl ToString) -> Vec<String> {
        self.seen(subject)
            .into_iter()
            .map(|event| event.kind)
            .collect()
    }

    /// How many events of this type were seen.
    pub fn count(&self, kind: &str) -> usize {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|event| event.kind == kind).count()
    }

    /// Waits until an event of this type about `subject` was seen, and answers the first.
    pub async fn wait_for(&self, kind: &str, subject: impl ToString) -> Seen {
        self.wait_for_nth(kind, subject, 1).await
    }

    /// Waits until `n` events of this type about `subject` were seen, and answers the last of them.
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

    /// Publishes a typed message on `events`, as choreography would; answers its id.
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

    /// Publishes anything anywhere.
    pub async fn send(&self, message: Message) {
        let outcomes = self.publisher.publish(std::slice::from_ref(&message)).await;
        assert_eq!(outcomes, [Outcome::Confirmed], "{message:?}");
    }

    /// Publishes many at once.
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
