//! # Distributed lock: one at a time, across processes, and a number that proves it
//!
//! **Problem.** Two payment workers must not both ask the card company about the same account. They take a lock in Redis
//! with a time to live of 10 s, so that a worker that dies blocks nobody for long. One worker's machine stops for 15 s, for a
//! garbage collector, a live migration, a closed lid. It wakes up in the middle of a line of code, still sure that the lock is
//! its own, and overwrites what the next holder has written since. No clock and no check before the write prevents that: the
//! pause can come after any check.
//!
//! **Guarantee.** At most one holder at a time, as long as Redis keeps its memory and clocks run evenly. Every acquisition
//! has a [`Fence`], a number that is higher than those before it, also after Redis lost its memory; and the database that
//! compares it in the transaction of the write ([below](#the-check)) accepts nothing from a holder after it has seen the next:
//! **that** holds always, whatever clocks, Redis or the network do. A holder is told when its lock is lost ([`Lock::lost`]),
//! measured on its own clock from before each request. A holder that dies blocks others for the time to live at most. Who
//! waits is woken by the release; nobody polls.
//!
//! | what | who guarantees it | as long as |
//! | --- | --- | --- |
//! | no write of an old holder after one of a newer | the check in the database | always |
//! | the check lets the newest holder pass | the fence grows: Redis' counter; its clock, on a new connection or where the counter is not above what this process saw | Redis keeps the count for as long as a connection lasts, or the clock is right; else [`Locks::raise_fence`], and the next try passes |
//! | two seldom hold it at a time | Redis, `SET NX PX` | it keeps its memory; clocks run evenly; no long pauses |
//! | it comes free after a crash | the time to live, in Redis | Redis runs |
//!
//! **Not guaranteed.** That there are never two who think they hold it: no lock with a time to live can do that. What has no
//! check (a mail, a call to somebody else's API) may happen twice: it needs an idempotency key of its own. Order: in one process
//! first come, first served ([`Locks`] and its clones); between processes whoever asks first when the lock comes free.
//! Liveness without Redis: nobody gets a lock while it is away.
//!
//! **States** of a lock, as its holder sees it.
//!
//! ```text
//!           granted                 released, dropped
//! wanted ─────────────► held ──────────────────────────────► free
//!   │                   │  ▲                                  ▲
//!   │ timeout           │  │ prolonged, every third           │ time to live is over,
//!   ▼                   │  └─ of the time to live             │ in Redis
//! given up              └────────────────────────► lost ──────┘
//!                         not prolonged in time,
//!                         or Redis does not know it
//! ```
//!
//! **Failure modes.** Redis is away: [`Locks::try_acquire`] fails at once, [`Locks::acquire`] tries until its time is over,
//! holders go on until their time is over and are then told. Redis is emptied (restart without persistence, `FLUSHALL`), or a
//! replica takes over that had not heard of the lock: somebody else gets it while the holder still works; the holder is told
//! at the next renewal, the check in the database protects the data meanwhile. Redis forgets who waits, too: they are told with
//! the holder, or look when the time is over that they know of. The answer to a request is lost: it is asked
//! again under the same token, and given back in the background if nobody wants it any more. A caller is cancelled: the
//! same. The process is stopped: [`Lock::is_held`] is false when it goes on, as it compares clocks at that moment.
//!
//! ```no_run
//! use std::time::Duration;
//! use holdfast::distributed_lock::{Error, Locks, Options};
//!
//! # async fn example(database: &mut Database) -> Result<(), Box<dyn std::error::Error>> {
//! let locks = Locks::new(&Options::new("redis://127.0.0.1:6379"))?;
//! let (ttl, patience) = (Duration::from_secs(10), Duration::from_secs(2));
//!
//! // Runs the closure under the lock; drops it when the lock is lost.
//! let written = locks
//!     .with("account/7", ttl, patience, async |lock| {
//!         database.write_fenced(lock.fence(), lock.token()).await
//!     })
//!     .await;
//! match written {
//!     Ok(Ok(())) => {}
//!     // Somebody newer has written: nothing of ours took effect.
//!     Ok(Err(stale)) => locks.raise_fence(stale.newest),
//!     Err(Error::Timeout(_)) => { /* somebody else is at it */ }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(()) }
//! # struct Database;
//! # struct Stale { newest: holdfast::distributed_lock::Fence }
//! # impl Database {
//! #     async fn write_fenced(&mut self, _: holdfast::distributed_lock::Fence, _: uuid::Uuid) -> Result<(), Stale> { Ok(()) }
//! # }
//! ```
//!
//! # The check
//!
//! A table beside the data that the lock protects, in the same database:
//!
//! ```sql
//! create table fence (
//!     resource text primary key,  -- the lock's name
//!     fence    bigint not null,   -- the newest that was let pass
//!     holder   uuid not null      -- whose: the lock's token
//! );
//! ```
//!
//! First in each transaction that writes under the lock, and in the one that reads what the write will depend on:
//!
#![doc = concat!("```sql\n", include_str!("check.sql"), "```")]
//!
//! One row: go on; the row stays locked until the commit, so checks happen one after the other. No row: a newer holder was
//! here. Roll back, `select fence`, and pass it to [`Locks::raise_fence`].
//!
//! **Copying this.** This folder, `backoff`, and the crates `fastrand`, `metrics`, `redis` (`tokio-comp`, `script`), `thiserror`,
//! `tokio`, `tokio-util`, `tracing`, `uuid` (`v4`). What people take otherwise: `rslock` (Redlock, polls, has no fence); a row
//! lock or `pg_advisory_xact_lock` in the database that they have anyway, which is right more often than not.
//!
//! Sources: Martin Kleppmann, "How to do distributed locking", 2016; Redis, "Distributed Locks with Redis", and Salvatore
//! Sanfilippo, "Is Redlock safe?", 2016; Mike Burrows, "The Chubby lock service", 2006 (its sequencers are these fences).

mod acquire;
mod connection;
mod error;
mod fence;
mod keeper;
mod lease;
mod lock;
mod locks;
mod name;
mod observe;
mod script;
mod waiting;

use std::time::Duration;

use self::locks::Inner;
pub use self::{
    error::Error,
    fence::Fence,
    lock::{Lock, Released},
    locks::{Locks, Options},
};

/// The shortest time to live: below it, a slow answer would be a lost lock.
pub const SHORTEST_TTL: Duration = Duration::from_millis(100);

/// The longest time to live: nobody should wait longer for what a crash left. A lock that is held longer is prolonged.
pub const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
