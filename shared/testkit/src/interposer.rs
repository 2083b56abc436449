//! A consumer between exchanges and queues, which forwards, loses, holds or repeats each message.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, QueueBindOptions},
    types::{AMQPValue, FieldTable, ShortString},
};
use tokio::{sync::watch, time::timeout};
use uuid::Uuid;

use crate::{
    PATIENCE, Vhost,
    probe::{family, own_queue},
};

/// The fate of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It is forwarded.
    Forward,
    /// It is lost.
    Drop,
    /// It waits until it is released.
    Hold,
    /// It is forwarded three times: as it is, as it is once more, and as if it had been resent under a new id.
    Repeat,
}

/// A consumer between exchanges and queues. It decides about each message by two properties:
///
/// - Its subject: the message waits until the test has [admitted](Self::admit) that. A test learns an order's id only
///   when its first message is on the way.
/// - Its idempotency key: a [rule](Self::rule) sets the fate of the message; without one it is forwarded.
///
/// A message that is forwarded keeps all of its properties.
#[derive(Debug)]
pub struct Interposer {
    desk: Arc<Desk>,
    /// The consumer ends with it.
    _connection: Connection,
}

#[derive(Debug)]
struct Desk {
    channel: Channel,
    /// The queue for each exchange and routing key.
    routes: HashMap<(String, String), String>,
    /// The state that the test changes. A std lock: held for a look, never across an await.
    book: Mutex<Book>,
    /// Changes when a message is held.
    held: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Book {
    admitted: HashSet<String>,
    /// The messages about subjects that are not admitted yet.
    waiting: HashMap<String, Vec<Passing>>,
    /// The rules, by family of exchanges (such as `commands`) and idempotency key.
    rules: HashMap<(String, String), Rule>,
}

/// The fate of the messages of one exchange and idempotency key.
#[derive(Debug)]
struct Rule {
    /// For the first messages, one by one.
    first: VecDeque<Passage>,
    /// For all others.
    then: Passage,
    held: Vec<Passing>,
}

/// A message on its way.
#[derive(Clone, Debug)]
struct Passing {
    exchange: String,
    queue: String,
    id: Uuid,
    subject: String,
    key: String,
    properties: BasicProperties,
    payload: Vec<u8>,
}

impl Interposer {
    /// Takes the place of these bindings: exchange, routing key, queue. The queues' other bindings stay.
    pub async fn attach(vhost: &Vhost, bindings: &[(&str, &str, &str)]) -> Self {
        let connection = Connection::connect(&vhost.url("admin"), ConnectionProperties::default())
            .await
            .expect("the broker answers");
        let channel = connection.create_channel().await.expect("a channel");
        let ours = own_queue(&channel).await;
        let mut consumer = channel
            .basic_consume(
                ours.clone(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            )
            .await
            .expect("a consumer");
        for binding in bindings.iter().copied() {
            replace(&channel, binding, &ours).await;
        }
        let desk = Arc::new(Desk {
            channel,
            routes: bindings
                .iter()
                .map(|(exchange, key, queue)| {
                    (
                        ((*exchange).to_owned(), (*key).to_owned()),
                        (*queue).to_owned(),
                    )
                })
                .collect(),
            book: Mutex::default(),
            held: watch::Sender::default(),
        });
        let working = Arc::clone(&desk);
        tokio::spawn(async move {
            while let Some(Ok(delivery)) = consumer.next().await {
                let going_on = working.came(working.read(&delivery));
                working.forward(going_on).await;
                let _ = delivery.ack(BasicAckOptions::default()).await;
            }
        });
        Self {
            desk,
            _connection: connection,
        }
    }

    /// Sets the fate of the messages that come by `exchange` under the idempotency key `key`: of the first ones as in
    /// `first`, of all others as in `then`.
    pub fn rule(&self, exchange: &str, key: &str, first: &[Passage], then: Passage) {
        let rule = Rule {
            first: first.iter().copied().collect(),
            then,
            held: Vec::new(),
        };
        let of = (exchange.to_owned(), key.to_owned());
        let before = self.desk.book().rules.insert(of, rule);
        assert!(before.is_none(), "there is a rule for {key} already");
    }

    /// Admits a subject: messages about it pass from now on, and those that came before pass now.
    pub async fn admit(&self, subject: impl ToString) {
        let subject = subject.to_string();
        let waiting = {
            let mut book = self.desk.book();
            book.admitted.insert(subject.clone());
            book.waiting.remove(&subject).unwrap_or_default()
        };
        for passing in waiting {
            let going_on = self.desk.came(passing);
            self.desk.forward(going_on).await;
        }
    }

    /// Returns the number of messages that are held under this key.
    pub fn held(&self, exchange: &str, key: &str) -> usize {
        let of = (exchange.to_owned(), key.to_owned());
        let book = self.desk.book();
        book.rules.get(&of).map_or(0, |rule| rule.held.len())
    }

    /// Waits until a message is held under this key.
    pub async fn wait_held(&self, exchange: &str, key: &str) {
        let mut changes = self.desk.held.subscribe();
        let waited = timeout(PATIENCE, async {
            while self.held(exchange, key) == 0 {
                changes.changed().await.expect("its sender is in our hands");
            }
        });
        assert!(
            waited.await.is_ok(),
            "nothing came by {exchange} under {key} within {PATIENCE:?}"
        );
    }

    /// Forwards the messages that are held under this key, and those that come under it from now on. Returns the ids of
    /// the former.
    pub async fn release(&self, exchange: &str, key: &str) -> Vec<Uuid> {
        let held = {
            let mut book = self.desk.book();
            let rule = book
                .rules
                .get_mut(&(exchange.to_owned(), key.to_owned()))
                .unwrap_or_else(|| panic!("there is no rule for {key}"));
            (rule.first, rule.then) = (VecDeque::new(), Passage::Forward);
            mem::take(&mut rule.held)
        };
        let ids = held.iter().map(|passing| passing.id).collect();
        self.desk.forward(held).await;
        ids
    }
}

/// Binds a queue in the place of the one that a binding names.
async fn replace(
    channel: &Channel,
    (exchange, routing_key, queue): (&str, &str, &str),
    by: &ShortString,
) {
    channel
        .queue_bind(
            by.clone(),
            exchange.into(),
            routing_key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
        .await
        .expect("a binding");
    channel
        .queue_unbind(
            queue.into(),
            exchange.into(),
            routing_key.into(),
            FieldTable::default(),
        )
        .await
        .expect("a binding less");
}

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, delivery: &Delivery) -> Passing {
        let header = |name: &str| {
            let headers = delivery.properties.headers().as_ref()?.inner();
            let text = headers.get(name)?.as_long_string()?.as_bytes();
            Some(String::from_utf8_lossy(text).into_owned())
        };
        let of = (
            delivery.exchange.to_string(),
            delivery.routing_key.to_string(),
        );
        Passing {
            queue: self.routes[&of].clone(),
            exchange: of.0,
            id: header("cloudEvents_id")
                .and_then(|id| id.parse().ok())
                .unwrap_or_default(),
            subject: header("cloudEvents_subject").unwrap_or_default(),
            key: header("cloudEvents_idempotencykey").unwrap_or_default(),
            properties: delivery.properties.clone(),
            payload: delivery.data.clone(),
        }
    }

    /// Takes a message that came. Returns the messages to forward because of it.
    fn came(&self, passing: Passing) -> Vec<Passing> {
        let mut book = self.book();
        if !book.admitted.contains(&passing.subject) {
            let waiting = book.waiting.entry(passing.subject.clone()).or_default();
            waiting.push(passing);
            return Vec::new();
        }
        let of = (family(&passing.exchange).to_owned(), passing.key.clone());
        let Some(rule) = book.rules.get_mut(&of) else {
            return vec![passing];
        };
        match rule.first.pop_front().unwrap_or(rule.then) {
            Passage::Forward => vec![passing],
            Passage::Drop => Vec::new(),
            Passage::Hold => {
                rule.held.push(passing);
                self.held.send_replace(());
                Vec::new()
            }
            Passage::Repeat => vec![passing.clone(), passing.clone(), passing.sent_anew()],
        }
    }

    async fn forward(&self, going_on: Vec<Passing>) {
        for passing in going_on {
            self.channel
                .basic_publish(
                    // The default exchange knows every queue by its name.
                    "".into(),
                    passing.queue.as_str().into(),
                    BasicPublishOptions::default(),
                    &passing.payload,
                    passing.properties,
                )
                .await
                .expect("the broker takes it");
        }
    }
}

impl Passing {
    /// Returns the same message under a new id.
    fn sent_anew(mut self) -> Self {
        self.id = Uuid::now_v7();
        let mut headers = self.properties.headers().clone().unwrap_or_default();
        let id = AMQPValue::LongString(self.id.to_string().into());
        headers.insert("cloudEvents_id".into(), id);
        self.properties = self
            .properties
            .with_headers(headers)
            .with_message_id(self.id.to_string().into());
        self
    }
}
