//! Messaging: from one service's commit to another service's commit.
//!
//! # Problem
//!
//! "We use a broker, so nothing gets lost." Then: the publisher never waited for the broker to confirm that it stored
//! the message. The consumer acknowledged the message and died half way through it. One message that always fails
//! blocks the queue behind it, or is retried ten thousand times a second, or is dropped with a log line. The database
//! was down for a minute, and every message of that minute ended in a dead-letter queue that nobody reads.
//!
//! # Guarantee
//!
//! A message that [`Publisher`] confirmed is stored and routed. A message is acknowledged only after the transaction of
//! its effect has committed ([`inbox`](crate::inbox)), or after a copy of it is safe on the retry schedule or in the
//! parking lot. A message that cannot be handled costs its neighbours nothing and ends in a table, with its cause,
//! where an operator edits, requeues or drops it ([`parking`]). An unavailable dependency costs no message an attempt:
//! the consumer keeps its batch and waits. Nor does a lock, however long it is held.
//!
//! # Not guaranteed
//!
//! Order: retries, redeliveries and concurrent consumers reorder. A message may be late by the whole retry schedule, or
//! by days if it was parked.
//!
//! # States
//!
//! The states of one message:
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
//! # Failure modes
//!
//! - **The connection breaks.** Everything unacknowledged is delivered again, and the inbox recognises what was
//!   handled.
//! - **The broker ends the consumer** (its timeout, a deleted queue). The batch in hand is abandoned without an
//!   acknowledgement, and the consumer subscribes again.
//! - **The database is unavailable, or the session is gone.** The batch waits.
//! - **A deadlock, a lost race.** The batch runs again.
//! - **A row or a table stays locked.** The batch is taken apart; a message that is locked out alone takes the delays,
//!   and no attempt is counted.
//! - **A statement or the transaction is too slow, three times**, while the database answers `select 1`. The batch is
//!   taken apart; a message that is too slow alone has failed an attempt.
//! - **One message fails its batch.** Each message of the batch runs alone, and only the bad one leaves.
//! - **A message kills its consumer again and again.** From its third delivery on it is handled with nothing else in
//!   hand; after `x-delivery-limit` deliveries the broker dead-letters it, and its cause says so.
//! - **The broker blocks its publishers.** Messages to be sent wait, the [`Link`] is down, and the connection is kept.
//! - **Headers are too large to be sent on.** The heaviest are left out, and the message says which.
//! - **An outbox row has headers that no frame can hold.** It is refused before it is sent.
//!
//! # Parts
//!
//! [`Event`] is the envelope, [`Publisher`] publishes with confirms, [`Consumers`] consumes in batches, [`Handler`] is
//! what a service implements, [`parking`] is the parking lot, [`Observer`] only watches. The topology (exchanges,
//! queues, delays) is not declared here: it is one file under `deploy/` that is loaded into the broker, so that no
//! service needs the right to change it. This module expects of it, for each queue `Q`:
//!
//! | routing key on [its exchange](retry_exchange) | leads to |
//! | --- | --- |
//! | `Q` | `Q` |
//! | `Q.retry.1` … `Q.retry.N` | a queue with a time to live that dead-letters to `Q` |
//! | `Q.dead` | `Q.dead`, where `Q` also dead-letters to |
//!
//! # Copying this
//!
//! This folder, the features in `Cargo.toml`'s line `messaging`, `failpoint` (or take its lines out, with `chaos.rs`
//! and its two lines in `queue.rs`), and your topology. The usual alternative is `lapin` alone, with each of the above
//! written by hand.
//!
//! Sources: RabbitMQ, "Consumer Acknowledgements and Publisher Confirms", "Dead Letter Exchanges", "Quorum Queues";
//! Gregor Hohpe and Bobby Woolf, "Enterprise Integration Patterns", "Invalid Message Channel", "Dead Letter Channel";
//! `CloudEvents` 1.0 and its AMQP binding.

mod batch;
#[cfg(feature = "failpoints")]
mod chaos;
mod connection;
mod consumer;
mod control;
mod deliveries;
mod event;
mod handler;
mod headers;
mod meter;
mod observe;
pub mod parking;
mod publisher;
mod queue;
mod subscription;
mod trace;

use sqlx::migrate::Migrator;

pub use connection::Link;
pub use consumer::Consumers;
pub use control::Controls;
pub use event::{ATTEMPT, Event, Incoming, Malformed};
pub use handler::{Error, Handler, Received, Undecodable};
pub use observe::{Observer, Sighting, Watch};
pub use publisher::Publisher;
pub use subscription::Subscription;

/// Returns the name of the exchange through which `queue`, its delays and its dead-letter queue are reached: `retry.`
/// and the first word of the queue's name.
///
/// A service's queues begin with its name, so each service has an exchange of its own, and a broker account that may
/// write to that one alone cannot write to the queues of others.
pub fn retry_exchange(queue: &str) -> String {
    let owner = queue.split('.').next().unwrap_or(queue);
    format!("retry.{owner}")
}

/// Returns the migrations of the tables of [`parking`]. They keep their own record (`_messaging_migrations`), apart
/// from the service's migrations.
pub fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("src/messaging/migrations");
    migrator.dangerous_set_table_name("_messaging_migrations");
    migrator
}

/// Returns the routing key of the dead-letter queue of `queue`, which is also its name.
fn dead(queue: &str) -> String {
    format!("{queue}.dead")
}

/// Returns the routing key of the delay queue before attempt `attempt + 1`, which is also its name.
fn retry(queue: &str, attempt: u32) -> String {
    format!("{queue}.retry.{attempt}")
}
