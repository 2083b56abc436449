//! Leased work: a call that a row requests is made, even if workers die.
//!
//! # Problem
//!
//! Payment has stored that order 7 is to be charged. A worker marks the row "in progress", calls the card processor,
//! and dies before it stores the answer. The row is in progress for ever: no other worker takes it, and no log shows an
//! error. Both shortcuts are worse. A worker that marks the row "done" before the call loses the charge. A worker that
//! keeps its transaction open around the call holds a connection and a row lock for as long as the processor takes, and
//! a slow processor stops everything else that needs the database.
//!
//! # Guarantee
//!
//! [`run`] works on claimed rows outside of any transaction, on at most [`Pace::concurrency`] of them at a time. A
//! panic in [`LeasedWork::work`] ends the work on one row, and a claim that fails is tried again: neither ends the
//! worker. The worker looks for due rows when it is woken, and after [`Pace::poll`] if it is not. At a shutdown it
//! claims nothing more, and finishes the rows in hand. [`insist`] tries to store an outcome until that succeeds,
//! another try cannot help, or the row's lease has ended. Each try gets a [`Try`], which says if an earlier one may
//! have committed.
//!
//! With a claim and writes as [`LeasedWork`] demands them, a row is leased to one worker at a time; the row of a worker
//! that died is due again when its lease ends; and a worker that comes late cannot change the future of a row that is
//! another's by then. So the work on a row is done at least once.
//!
//! # Not guaranteed
//!
//! Exactly once: a worker that dies between its call and the commit of the outcome leaves a row whose call is made
//! again. The call needs an idempotency key that belongs to the row. One call at a time: a worker that was stopped for
//! longer than its lease wakes up beside its successor, and its call may be on its way; where the other side cannot
//! tell the two apart, take a lock with a fence. Order: rows overtake each other.
//!
//! # States
//!
//! The states of one row. `due_at` is the time from which it may be claimed, on the database's clock:
//!
//! ```text
//!          claimed: due_at = now() + lease            outcome, under this lease
//! waiting ─────────────────────────────────► leased ───────────────────────────► over: due_at is null
//!  ▲   ▲                                      │  │
//!  │   └── put off, under this lease: ────────┘  │
//!  │       due_at = now() + delay                │
//!  └────── the lease has ended ──────────────────┘
//! ```
//!
//! The end of the lease is also the claim's name: no other claim of the row has the same. A worker's writes say
//! `where due_at = …` with it, and match nothing once the row is another's. A fact that ends the work for every worker,
//! such as a delivery, may be written in any case.
//!
//! # Failure modes
//!
//! - **The worker dies, or its work panics.** The lease ends, and the row is claimed again.
//! - **The worker is stopped for longer than the lease** (a debugger, a frozen machine). Its row is done again by
//!   another worker, and what it writes when it wakes up matches no row.
//! - **The lease is shorter than the work.** Two workers do the same, and the row may never be over. A lease is longer
//!   than the time limit of the call and of storing its outcome together.
//! - **The work never ends.** It keeps one of the places until the process ends, so the call needs a time limit.
//! - **The database is unavailable.** Claims wait, with a growing delay; outcomes are stored when it is back, or the
//!   work is repeated if that is after the end of the lease.
//! - **The reply to a commit is lost.** [`insist`] tries again with [`Try::Again`], and the outcome stores only what is
//!   missing.
//! - **A row fails whatever is done.** A claim counts attempts in the row, and the work gives up after enough of them.
//! - **[`LeasedWork::claim`] or [`LeasedWork::sample`] panics.** That is a panic of [`run`], and ends the worker.
//! - **A wake is forgotten, or comes from another process.** The row waits for the next poll.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//!
//! use holdfast::{
//!     deadline::Deadline,
//!     leased_work::{self, LeasedWork, Pace, Try, insist},
//! };
//! use sqlx::{PgPool, types::time::OffsetDateTime};
//! # async fn call(_key: i64) -> String { String::new() }
//!
//! const LEASE: Duration = Duration::from_secs(15); // the call takes at most 5 s
//!
//! struct Charges(PgPool);
//!
//! struct Claimed {
//!     id: i64,
//!     /// The end of the lease, which is the claim's name.
//!     lease_until: OffsetDateTime,
//!     /// The same end, on this process's clock.
//!     lease: Deadline,
//! }
//!
//! impl LeasedWork for Charges {
//!     type Claimed = Claimed;
//!
//!     async fn claim(&self, limit: i64) -> sqlx::Result<Vec<Claimed>> {
//!         // Taken before the claim is sent, so that it is over before the lease in the database is.
//!         let lease = Deadline::after(LEASE);
//!         let rows: Vec<(i64, OffsetDateTime)> = sqlx::query_as(
//!             "update charge set due_at = now() + make_interval(secs => $2), attempts = attempts + 1
//!              where id in (select id from charge where due_at <= now() order by due_at
//!                           limit $1 for update skip locked)
//!              returning id, due_at",
//!         )
//!         .bind(limit)
//!         .bind(LEASE.as_secs_f64())
//!         .fetch_all(&self.0)
//!         .await?;
//!         let rows = rows.into_iter();
//!         Ok(rows.map(|(id, lease_until)| Claimed { id, lease_until, lease }).collect())
//!     }
//!
//!     async fn work(&self, claimed: Claimed) {
//!         let answer = call(claimed.id).await; // the row's id is the idempotency key
//!         let store = async |_: Try| {
//!             sqlx::query("update charge set due_at = null, answer = $3 where id = $1 and due_at = $2")
//!                 .bind(claimed.id)
//!                 .bind(claimed.lease_until)
//!                 .bind(&answer)
//!                 .execute(&self.0)
//!                 .await
//!                 .map(drop)
//!         };
//!         if let Err(error) = insist(claimed.lease, store).await {
//!             eprintln!("the lease of {} will end, and the call will be made again: {error}", claimed.id);
//!         }
//!     }
//!
//!     async fn sample(&self) {}
//! }
//!
//! # async fn example(pool: PgPool, shutdown: tokio_util::sync::CancellationToken) {
//! let waker = Arc::new(tokio::sync::Notify::new()); // `notify_one` after each commit of a row that is due
//! let pace = Pace { concurrency: 16, poll: Duration::from_millis(250), waker };
//! leased_work::run(Charges(pool), pace, shutdown).await;
//! # }
//! ```
//!
//! # Copying this
//!
//! This folder, `backoff`, `completion`, `deadline`, `transaction`, and the crates `sqlx` (PostgreSQL), `tokio` (`rt`,
//! `sync`, `time`), `tokio-util` and `tracing`. The table and its SQL are yours. The usual alternative is a job queue
//! on PostgreSQL, or a broker's visibility timeout, which is the same lease.
//!
//! Sources: Cary Gray and David Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache
//! Consistency", SOSP 1989; Pat Helland, "Life beyond Distributed Transactions", 2007; Brandur Leach, "Implementing
//! Stripe-like Idempotency Keys in Postgres", 2017; PostgreSQL's documentation, "The Locking Clause" (`SKIP LOCKED`).

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    backoff::{Backoff, pause},
    deadline::Deadline,
    transaction::{Class, classify},
};

/// A kind of work on leased rows.
pub trait LeasedWork: Send + Sync + 'static {
    /// A claimed row, with the end of its lease: on the database's clock, as the name of the claim, and on this
    /// process's, for [`insist`].
    type Claimed: Send + 'static;

    /// Claims up to `limit` rows that are due. The lease must be longer than the work on one row and the storing of its
    /// outcome take together.
    ///
    /// Must make each row due at the end of its lease, on the database's clock, in one statement that skips locked
    /// rows. Must return within a bound of its own: a shutdown waits for it. Fewer rows than `limit` mean that no more
    /// are due. After an error it is called again, with a growing delay.
    fn claim(&self, limit: i64) -> impl Future<Output = sqlx::Result<Vec<Self::Claimed>>> + Send;

    /// Works on a row, and stores the outcome.
    ///
    /// Must be idempotent: after a crash it is done again. Must end within the lease: a shutdown waits for it. A write
    /// about the row's future (when it is due again, that it has failed) must name the lease, and so match nothing if
    /// the row is another worker's by then. If it returns without such a write, or panics, the row is due again when
    /// its lease ends.
    fn work(&self, claimed: Self::Claimed) -> impl Future<Output = ()> + Send;

    /// Sets gauges. Called each time that [`Pace::poll`] has passed, before the look for due rows; the worker claims
    /// nothing meanwhile.
    fn sample(&self) -> impl Future<Output = ()> + Send;
}

/// The concurrency of the work, and its wake-ups.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The most rows that are in hand at a time. With 0 nothing is claimed.
    pub concurrency: usize,
    /// The time between two looks for due rows, if nothing wakes the worker.
    pub poll: Duration,
    /// Wakes the worker, by [`Notify::notify_one`], after a row that is due has been committed.
    pub waker: Arc<Notify>,
}

/// Stores the outcome of a row's work: calls `store` until that succeeds or the row's lease is over. `store` gets
/// [`Try::Again`] if an earlier try may have committed although its reply was lost.
///
/// Returns the last try's error: at once, if it is of [`Class::Other`], after which another try cannot help. The waits
/// between tries are those of [`Backoff::RECONNECT`]; the last try begins when the lease ends. A try is not cut short
/// then, so `store` needs time limits of its own.
///
/// Cancel safe if `store` is: after a drop the outcome may be stored or not, as after a lost reply.
pub async fn insist<F: Future<Output = sqlx::Result<()>>>(
    lease: Deadline,
    store: impl Fn(Try) -> F,
) -> sqlx::Result<()> {
    let mut delays = Backoff::RECONNECT.delays();
    let mut this = Try::First;
    loop {
        let error = match store(this).await {
            Err(error) if classify(&error) != Class::Other && lease.remaining().is_some() => error,
            stored => return stored,
        };
        warn!(%error, "the outcome is not stored yet");
        this = Try::Again;
        // At the end of the lease there is one last try.
        let _ = lease.run(delays.wait()).await;
    }
}

/// One of the tries of [`insist`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// The first try: nothing was stored before.
    First,
    /// A later try: an earlier one may have committed, so store only what is missing.
    Again,
}

/// Works until `shutdown`; then finishes the rows in hand.
///
/// Not cancel safe: dropping it aborts the work on the rows in hand, and each is due again when its lease ends.
pub async fn run<W: LeasedWork>(work: W, pace: Pace, shutdown: CancellationToken) {
    let work = Arc::new(work);
    let mut in_hand = JoinSet::new();
    let mut away = Backoff::RECONNECT.delays();
    // Set if more rows may be due than were claimed. A place that becomes free is no reason to look.
    let mut more = true;
    let mut polled = Instant::now();
    while !shutdown.is_cancelled() {
        let free = pace.concurrency.saturating_sub(in_hand.len());
        if more && free > 0 {
            let claimed = match work.claim(i64::try_from(free).unwrap_or(i64::MAX)).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    warn!(%error, "cannot claim work");
                    let _ = shutdown.run_until_cancelled(away.wait()).await;
                    continue;
                }
            };
            away.reset();
            polled = Instant::now();
            more = claimed.len() == free;
            for claimed in claimed {
                let work = Arc::clone(&work);
                in_hand.spawn(async move { work.work(claimed).await });
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(ended) = in_hand.join_next(), if !in_hand.is_empty() => {
                if let Err(panic) = ended {
                    error!(%panic, "leased work panicked; its lease will end");
                }
            }
            () = pace.waker.notified(), if !more => more = true,
            () = pause(pace.poll.saturating_sub(polled.elapsed())), if !more => {
                work.sample().await;
                more = true;
            }
        }
    }
    while in_hand.join_next().await.is_some() {}
}
