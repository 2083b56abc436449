//! Distributed lock: one holder at a time, across processes, and a number that proves it.
//!
//! # Problem
//!
//! Two payment workers must not charge the same account at the same time. They take a lock in Redis with a time to live
//! of 10 s, so that a worker that dies does not block the account for long. One worker's machine stops for 15 s: a
//! garbage collector, a live migration, a closed lid. The worker resumes in the middle of a line of code, still sure
//! that it holds the lock, and overwrites what the next holder has written since. No clock and no check before the
//! write prevents that: the pause can come after any check.
//!
//! # Guarantee
//!
//! At most one holder at a time, as long as Redis keeps its memory and clocks run evenly. Every acquisition has a
//! [`Fence`], a number higher than all before it, even after Redis lost its memory (unless its clock was set back as
//! well). The database compares the fence in the transaction of the write ([below](#the-check)) and accepts nothing
//! from a holder after it has seen the next: **that** always holds, whatever clocks, Redis or the network do. A holder
//! is notified when its lock is lost ([`Lock::lost`]), by its own clock, counted from before each request was sent. A
//! holder that dies blocks others for the time to live at most. Waiters are woken by the release; none of them polls.
//!
//! | claim | guaranteed by | as long as |
//! | --- | --- | --- |
//! | no write of an old holder after one of a newer | the check in the database | always |
//! | the check passes the newest holder | the fence, which grows | see below |
//! | there are seldom two holders | Redis, `SET NX PX` | it keeps its memory; clocks run evenly; no long pauses |
//! | the lock is free after a crash | the time to live, in Redis | Redis runs |
//!
//! The fence is a counter in Redis. It is brought up to Redis' clock on each new connection, and wherever it is not
//! above what this process has seen. So fences grow if the counter survives for as long as a connection lasts, or else
//! the clock is right. Otherwise the newest holder is refused; it calls [`Locks::raise_fence`], and its next attempt
//! passes.
//!
//! # Not guaranteed
//!
//! That two processes never take themselves for the holder at the same time: no lock with a time to live can guarantee
//! it. That an effect without the check (a mail, a call to another company's API) happens once: it needs an idempotency
//! key of its own. Order between processes: the first request after the lock became free gets it. Within one process
//! ([`Locks`] and its clones) it is first come, first served. Liveness without Redis: while it is unavailable no lock
//! is granted.
//!
//! # States
//!
//! The states of a lock, as its holder sees it.
//!
//! ```text
//!           granted                 released, dropped
//! wanted ─────────────► held ──────────────────────────────► free
//!   │                   │  ▲                                  ▲
//!   │ timeout           │  │ renewed, every third             │ time to live is over,
//!   ▼                   │  └─ of the time to live             │ in Redis
//! given up              └────────────────────────► lost ──────┘
//!                         not renewed in time,
//!                         or Redis does not know it
//! ```
//!
//! # Failure modes
//!
//! - Redis is unavailable: [`Locks::try_acquire`] fails at once, [`Locks::acquire`] retries until its timeout, holders
//!   continue until their time to live is over and are then notified.
//! - Redis is emptied (restart without persistence, `FLUSHALL`), or a replica takes over that had not received the
//!   lock: another process acquires it while the holder still works. The holder is notified at its next renewal; until
//!   then the check in the database protects the data. Redis forgets the waiters as well: they are woken when the
//!   holder is notified, or request the lock again when the time to live that they know of is over.
//! - The reply to a request is lost: the request is repeated under the same token. If its caller is gone, or is
//!   cancelled, the lock is released in the background.
//! - The process is stopped: [`Lock::is_held`] returns false when it resumes, because it compares clocks at that
//!   moment.
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
//!     // A newer holder has written: nothing of ours took effect.
//!     Ok(Err(stale)) => locks.raise_fence(stale.newest),
//!     Err(Error::Timeout(_)) => { /* another holder has the lock: do without, or try later */ }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(()) }
//! # struct Database;
//! # struct Stale { newest: holdfast::distributed_lock::Fence }
//! # impl Database {
//! #     async fn write_fenced(
//! #         &mut self,
//! #         _: holdfast::distributed_lock::Fence,
//! #         _: uuid::Uuid,
//! #     ) -> Result<(), Stale> { Ok(()) }
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
//!     fence    bigint not null,   -- the newest fence that passed
//!     holder   uuid not null      -- the token of the lock with that fence
//! );
//! ```
//!
//! First in each transaction that writes under the lock, and in the one that reads what the write will depend on:
//!
#![doc = concat!("```sql\n", include_str!("check.sql"), "```")]
//!
//! One row: continue; the row stays locked until the commit, so checks happen one after the other. No row: a newer
//! holder has been here. Roll back, `select fence`, and pass it to [`Locks::raise_fence`].
//!
//! # Copying this
//!
//! This folder, `backoff`, and the crates `fastrand`, `metrics`, `redis` (`tokio-comp`, `script`), `thiserror`,
//! `tokio`, `tokio-util`, `tracing`, `uuid` (`v4`). Alternatives: `rslock` (Redlock, polls, has no fence); a row lock
//! or `pg_advisory_xact_lock` in a database that is there anyway, which is more often the right choice.
//!
//! Sources: Martin Kleppmann, "How to do distributed locking", 2016; Redis, "Distributed Locks with Redis", and
//! Salvatore Sanfilippo, "Is Redlock safe?", 2016; Mike Burrows, "The Chubby lock service", 2006 (its sequencers are
//! these fences).

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

/// The shortest time to live. Below it, a slow reply would already cost the lock.
pub const SHORTEST_TTL: Duration = Duration::from_millis(100);

/// The longest time to live, because others wait that long after a crash. A lock that is held longer is renewed.
pub const LONGEST_TTL: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
