//! # Messaging: from one service's commit to another service's commit
//!
//! **Problem.** "We use a broker, so nothing gets lost." Then: the publisher never asked whether the broker stored the
//! message. The consumer acknowledged it and died half way. One message that always fails blocks the queue behind it, or
//! is retried ten thousand times a second, or is dropped with a log line. The database was down for a minute, and every
//! message of that minute ended in a dead-letter queue that nobody reads.
//!
//! **Guarantee.** A message that [`Publisher`] confirmed is stored and routed. A message is acknowledged only
//! after the transaction of its effect has committed ([`inbox`](crate::inbox)), or after a copy of it is safe on the
//! retry schedule or in the parking lot. A message that cannot be handled costs its neighbours nothing and ends in a
//! table, with its cause, where an operator edits, requeues or drops it ([`parking`]). A dependency that is away costs no
//! message an attempt: the consumer waits with the batch in its hands. Neither does a lock, however long it is held.
//!
//! **Not guaranteed.** Order: retries, redeliveries and several consumers reorder. A message may come late by the whole
//! schedule, or days, once it was parked.
//!
//! **States** of one message:
//!
//! ```text
//!                       ┌───────────────── delay (1 s, 5 s, 30 s, 2 min) ──────────────┐
//!                       ▼                                                              │
//! published ──► in the queue ──► in a batch ──► committed ──► acknowledged             │
//!                                   │ its own error                                    │
//!                                   ├──────► retry.1 … retry.4 ────────────────────────┘
//!                                   │ malformed, unknown, forged, forbidden, or the schedule is used up
//!                                   └──────► dead ──► parked_message ──► requeued or dropped by an operator
//! ```
//!
//! **Failure modes.**
//!
//! | what happens | what the consumer does |
//! | --- | --- |
//! | the connection breaks | everything unacknowledged comes again, and the inbox knows it |
//! | the broker ends the consumer (its timeout, a deleted queue) | the batch in hand is given up, not acknowledged; it subscribes again |
//! | the database is away, or the session is gone | the batch waits |
//! | a deadlock, a lost race | the batch runs again |
//! | a row or a table stays locked | the batch is taken apart; a message that is locked out alone takes the delays, and no attempt is counted |
//! | a statement or the transaction is too slow, three times, and the database answers `select 1` | the batch is taken apart; a message that is too slow alone is a failed attempt |
//! | one message fails its batch | each message of the batch runs alone, and only the bad one leaves |
//! | a message kills its consumer again and again | from its third delivery on it is handled with nothing else in hand; after `x-delivery-limit` deliveries the broker dead-letters it, and its cause says so |
//! | the broker blocks its publishers | what is to be sent waits, the [`Link`] is down, and the connection is kept |
//! | headers are too large to be sent on | the heaviest are left out, and the message says which |
//! | an outbox row has headers that no frame can hold | it is refused before it is sent |
//!
//! **The parts.** [`Event`] is the envelope, [`Publisher`] publishes with confirms, [`Consumers`] consumes in batches,
//! [`Handler`] is what a service implements, [`parking`] is the parking lot, [`Observer`] looks on. The topology (exchanges, queues, delays) is
//! not declared here: it is one file under `deploy/` that is loaded into the broker, so that no service needs the right
//! to change it. What this module expects of it, for each queue `Q`:
//!
//! | routing key on [its exchange](retry_exchange) | leads to |
//! | --- | --- |
//! | `Q` | `Q` |
//! | `Q.retry.1` … `Q.retry.N` | a queue with a time to live that dead-letters to `Q` |
//! | `Q.dead` | `Q.dead`, where `Q` also dead-letters to |
//!
//! **Copying this.** This folder, the features in `Cargo.toml`'s line `messaging`, `failpoint` (or take its lines and
//! `chaos.rs` out), and your topology. What people take otherwise: `lapin` alone, and then each of the above by hand.
//!
//! Sources: RabbitMQ, "Consumer Acknowledgements and Publisher Confirms", "Dead Letter Exchanges", "Quorum Queues"; Gregor
//! Hohpe and Bobby Woolf, "Enterprise Integration Patterns", "Invalid Message Channel", "Dead Letter Channel"; `CloudEvents`
//! 1.0 and its AMQP binding.

mod batch;
mod chaos;
mod connection;
mod consumer;
mod control;
mod event;
mod handler;
mod headers;
mod meter;
mod observe;
pub mod parking;
mod publisher;
mod subscription;
mod trace;

use sqlx::migrate::Migrator;

pub use connection::Link;
pub use consumer::Consumers;
pub use control::Controls;
pub use event::{ATTEMPT, Event, Incoming, Malformed};
pub use handler::{Class, Error, Handler, Received, Undecodable, classify};
pub use observe::{Observer, Sighting, Watch};
pub use publisher::Publisher;
pub use subscription::Subscription;

/// Returns the exchange behind which the delays and the dead-letter queue of `queue` are, and `queue` itself: `retry.` and the
/// first word of the queue's name.
///
/// A service's queues begin with its name, so each service has an exchange of its own, and a broker account that may write to
/// that one alone puts nothing into the queues of others.
pub fn retry_exchange(queue: &str) -> String {
    let owner = queue.split('.').next().unwrap_or(queue);
    format!("retry.{owner}")
}

/// Creates the tables of [`parking`]. Keeps its own record (`_messaging_migrations`), apart from the service's migrations.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("src/messaging/migrations");
    migrator.dangerous_set_table_name("_messaging_migrations");
    migrator
}

/// The routing key, and name, of the dead-letter queue of `queue`.
fn dead(queue: &str) -> String {
    format!("{queue}.dead")
}

/// The routing key, and name, of the delay queue before attempt `attempt + 1`.
fn retry(queue: &str, attempt: u32) -> String {
    format!("{queue}.retry.{attempt}")
}
