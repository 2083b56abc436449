//! Transactional outbox: a state change and the message about it happen both or not at all.
//!
//! # Problem
//!
//! The order service commits an order and then publishes "order created". Between the two it dies. The order exists but
//! is never charged, and no log shows an error. The other way round, publish and then commit, is worse: the customer is
//! charged for an order that does not exist. That is the *dual write*.
//!
//! # Guarantee
//!
//! [`enqueue`] writes the message in the transaction of the change. A [`Relay`] publishes what is committed, at least
//! once, and deletes a row only after the broker confirmed it. Any number of relays may run.
//!
//! # Not guaranteed
//!
//! Exactly once: a relay that dies between publishing and deleting publishes the row again, under the same message id,
//! by which the receiver's inbox recognises it. Order: batches of several relays, and rows that commit late, overtake
//! each other. A protocol on top must not need order.
//!
//! # States
//!
//! ```text
//!            claimed, confirmed
//! waiting ────────────────────────► gone
//!  ▲   │ nacked: waiting, later
//!  │   │ refused (unroutable, forbidden, too large)
//!  │   ├────► waiting, later
//!  │   └────► quarantined, after `max_attempts`
//!  └──────────────┘ released by an operator
//! ```
//!
//! # Failure modes
//!
//! The broker is unavailable, or blocks its publishers: rows wait, no attempt is counted, the relay backs off, and its
//! gauges are still sampled. The broker nacks a row (a full queue, a full disk): the row waits longer each time, and no
//! attempt is counted. The broker refuses a row: it waits longer each time, then is quarantined with its error, and
//! never holds up other rows. The process dies anywhere: its claim ends with its connection.
//!
//! # Reasons
//!
//! The relay *claims* rows (`for update skip locked`) because `id > last` skips rows that commit late. It is woken in
//! the process after a commit ([`Waker`]) and polls as a fallback, because `listen`/`notify` takes a global lock at
//! commit. Publishing is the one network call of this project inside a transaction, and it is bounded: the claim has to
//! last exactly as long as the publish.
//!
//! ```no_run
//! # async fn example(pool: sqlx::PgPool, waker: holdfast::outbox::Waker) -> sqlx::Result<()> {
//! use holdfast::outbox::{self, Message};
//!
//! let mut tx = holdfast::transaction::begin(&pool).await?;
//! // … the change itself, on `tx` …
//! let message = Message {
//!     id: uuid::Uuid::now_v7(),
//!     exchange: "events".into(),
//!     routing_key: "choreography.order.created.v1".into(),
//!     headers: [("content-type".into(), "application/json".into())].into(),
//!     payload: br#"{"order_id":"0198"}"#.to_vec(),
//! };
//! outbox::enqueue(&mut tx, &[message]).await?;
//! tx.commit().await?;
//! waker.wake();
//! # Ok(()) }
//! ```
//!
//! # Copying this
//!
//! This folder, `backoff`, `completion`, `transaction`, `failpoint` (or take its lines out), and the crates `metrics`,
//! `sqlx` (PostgreSQL), `thiserror`, `time`, `tokio`, `tokio-util`, `tracing`, `uuid`. No broker is included: implement
//! [`Publisher`] over yours. The usual alternative is Debezium's outbox router, which reads the write-ahead log instead
//! of polling.
//!
//! Sources: Chris Richardson, "Microservices Patterns", 3.3.7 and microservices.io, "Transactional outbox"; Pat
//! Helland, "Life beyond Distributed Transactions", 2007.

mod relay;
mod store;

use std::{collections::BTreeMap, future::Future, sync::Arc};

pub use relay::{Config, Relay};
use sqlx::migrate::Migrator;
pub use store::{Backlog, Quarantined, backlog, enqueue, quarantined, release};
use tokio::sync::Notify;
use uuid::Uuid;

/// Creates the table `outbox`. Keeps its own record (`_outbox_migrations`), apart from the service's migrations.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("src/outbox/migrations");
    migrator.dangerous_set_table_name("_outbox_migrations");
    migrator
}

/// A message to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message id, new for each message. A row that is published again keeps it.
    pub id: Uuid,
    /// The exchange that the message is published to.
    pub exchange: String,
    /// The key by which the broker routes the message.
    pub routing_key: String,
    /// The text headers, by name.
    pub headers: BTreeMap<String, String>,
    /// The body, as it will be on the wire.
    pub payload: Vec<u8>,
}

/// The broker's reply to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has stored the message and routed it to at least one queue.
    Confirmed,
    /// The broker refuses the message: it is unroutable, forbidden, or too large. After too many refusals its row is
    /// quarantined.
    Refused(String),
    /// The broker could not store the message now (a nack), which is not the message's fault. Its row waits, and is
    /// never quarantined.
    Nacked,
    /// There was no reply. The broker may have stored the message, so it is published again under the same id. Costs no
    /// attempt.
    Unknown,
}

/// The broker is unavailable. Wait, and try again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the broker is unavailable: {0}")]
pub struct Unavailable(pub String);

/// The connection to a broker, through which a relay publishes.
pub trait Publisher: Send + Sync + 'static {
    /// Makes sure that there is a connection. Called before rows are claimed, so that no transaction waits for it.
    ///
    /// Must return within seconds, and must be cancel safe.
    fn ready(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Publishes a batch and waits for the broker's reply to each message; returns the outcomes in the order of the
    /// batch.
    ///
    /// Must return within a bound of its own, must return [`Outcome::Confirmed`] only for messages that the broker has
    /// stored *and* routed, and must be cancel safe: a batch that is dropped is published again.
    fn publish(&self, batch: &[Message]) -> impl Future<Output = Vec<Outcome>> + Send;
}

/// A handle that wakes the relay after a commit, so that a message leaves in a millisecond and not at the next poll.
///
/// A wake that is forgotten, or comes from another process, costs one polling interval and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// Wakes the relay for new rows. Call it after the commit: before, the relay cannot see them.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for the next wake. Cancel safe; a wake that comes before is kept.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}

/// Returns the [`Notify`] that the handle wakes, for a worker that is no relay and waits for it itself.
impl From<Waker> for Arc<Notify> {
    fn from(waker: Waker) -> Self {
        waker.0
    }
}
