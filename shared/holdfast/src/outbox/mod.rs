//! # Transactional outbox: a state change and the message about it happen both or not at all
//!
//! **Problem.** The order service commits an order and then publishes "order created". Between the two it dies. The
//! order exists, nobody will ever charge it, and no log shows an error. The other way round, publish and then commit, is
//! worse: the customer is charged for an order that does not exist. That is the *dual write*.
//!
//! **Guarantee.** [`enqueue`] writes the message in the transaction of the change. A [`Relay`] publishes what is
//! committed, at least once, and deletes a row only after the broker confirmed it. Any number of relays may run.
//!
//! **Not guaranteed.** Exactly once: a relay that dies between publishing and deleting publishes again, under the same
//! message id, for the receiver's inbox to recognise. Order: batches of several relays, and rows
//! that commit late, overtake each other. A protocol on top must not need order.
//!
//! **States.**
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
//! **Failure modes.** The broker is away, or blocks its publishers: rows wait, no attempt is counted, the relay backs off, and
//! its gauges go on. The broker nacks a row (a full queue, a full disk): the row waits longer each time, and no attempt is
//! counted. The broker refuses a row: it waits longer each time, then is quarantined with its error, and never holds up
//! others. The process dies anywhere: its claim ends with its connection.
//!
//! **Why so.** The relay *claims* rows (`for update skip locked`) because `id > last` skips rows that commit late. It is
//! woken in the process after a commit ([`Waker`]) and polls as a fallback, because `listen`/`notify` takes a global lock at
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
//! **Copying this.** This folder, `backoff`, `completion`, `transaction`, `failpoint` (or take its lines out), and the
//! crates `metrics`, `sqlx` (PostgreSQL), `thiserror`, `time`, `tokio`, `tokio-util`, `tracing`, `uuid`. There is no
//! broker in it: implement [`Publisher`] over yours. What people take otherwise: Debezium's outbox router, which reads
//! the write-ahead log instead of polling.
//!
//! Sources: Chris Richardson, "Microservices Patterns", 3.3.7 and microservices.io, "Transactional outbox"; Pat Helland,
//! "Life beyond Distributed Transactions", 2007.

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
    /// New for every send; a second publish of the same row keeps it.
    pub id: Uuid,
    /// Where the broker takes it in.
    pub exchange: String,
    /// By what the broker routes it.
    pub routing_key: String,
    /// Text headers.
    pub headers: BTreeMap<String, String>,
    /// The body, as it will be on the wire.
    pub payload: Vec<u8>,
}

/// What the broker said of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it: it is stored and routed to at least one queue.
    Confirmed,
    /// The broker will not have it: unroutable, forbidden, or too large. After too many times it is put aside.
    Refused(String),
    /// The broker could not store it now (a nack): its trouble, not the message's. It waits, and is never put aside.
    Nacked,
    /// No answer. It may have been taken, so it is published again under the same id. Costs no attempt.
    Unknown,
}

/// The broker cannot be reached. Wait, and try again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the broker cannot be reached: {0}")]
pub struct Unavailable(pub String);

/// What a relay publishes through.
pub trait Publisher: Send + Sync + 'static {
    /// Makes sure that there is a connection. Called before rows are claimed, so that no transaction waits for it.
    ///
    /// Must return within seconds, and must be cancel safe.
    fn ready(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;

    /// Publishes a batch and waits for the broker's word on each message; answers in the order of the batch.
    ///
    /// Must return within a bound of its own, must say [`Outcome::Confirmed`] only of what the broker has stored *and*
    /// routed, and must be cancel safe: a batch that is dropped is published again.
    fn publish(&self, batch: &[Message]) -> impl Future<Output = Vec<Outcome>> + Send;
}

/// Wakes the relay after a commit, so that a message leaves in a millisecond and not at the next poll.
///
/// A wake that is forgotten, or comes from another process, costs one polling interval and nothing else.
#[derive(Clone, Debug, Default)]
pub struct Waker(Arc<Notify>);

impl Waker {
    /// There are new rows. Call it after the commit: before, there is nothing to see.
    pub fn wake(&self) {
        self.0.notify_one();
    }

    /// Waits for the next wake. Cancel safe; a wake that comes before is kept.
    pub async fn woken(&self) {
        self.0.notified().await;
    }
}
