//! Outward work that must not be lost: rows that are claimed by leases, worked on outside of any transaction, and answered.
//!
//! A claim sets a row's due time to the end of its lease, on the database's clock. A worker that dies says nothing: the
//! lease ends, and the row is due again. So the work may be done twice, and must be idempotent.
//!
//! A worker that was stopped for longer than its lease comes late: the row may be another worker's by then. So what it writes
//! about the row's future (when it is due again, that it has failed) names the lease that it was claimed by, and matches no
//! other; only a fact that ends the work for everybody, such as a delivery, is written in any case. What came of the work is
//! stored with [`insist`]: work that was done and not recorded is done again.

use std::{future::Future, sync::Arc, time::Duration};

use holdfast::{
    backoff::{Backoff, pause},
    deadline::Deadline,
    messaging::{Class, classify},
    outbox::Waker,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// What is worked on.
pub trait LeasedWork: Send + Sync + 'static {
    /// A claimed row.
    type Claimed: Send + 'static;

    /// Claims up to `limit` rows that are due, for as long as working on one can take.
    fn claim(&self, limit: i64) -> impl Future<Output = sqlx::Result<Vec<Self::Claimed>>> + Send;

    /// Works on a row, and stores what came of it. Must be idempotent: after a crash it is done again.
    fn work(&self, claimed: Self::Claimed) -> impl Future<Output = ()> + Send;

    /// Sets gauges. Called now and then while there is little to do.
    fn sample(&self) -> impl Future<Output = ()> + Send;
}

/// How it is worked on.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Rows that are worked on at a time.
    pub concurrency: usize,
    /// How often to look for rows when nobody wakes the worker.
    pub poll: Duration,
    /// Wakes the worker.
    pub waker: Waker,
}

/// Stores what came of a row's work: tries until that is done or the row's lease is over. `store` is told whether a try came
/// before, which may have committed although its answer was lost.
///
/// Returns the last try's error; at once, if trying again cannot help.
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
        warn!(%error, "what came of it is not stored yet");
        this = Try::Again;
        // At the end of the lease there is one last try.
        let _ = lease.run(delays.wait()).await;
    }
}

/// One of the tries of [`insist`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// Nothing was stored before.
    First,
    /// One before may have committed: store only what it has not.
    Again,
}

/// Works until `shutdown`; then finishes what is in hand.
pub async fn run<W: LeasedWork>(work: W, pace: Pace, shutdown: CancellationToken) {
    let work = Arc::new(work);
    let mut in_hand = JoinSet::new();
    let mut away = Backoff::RECONNECT.delays();
    // Whether more may be due than what was claimed. A place that is free again is no reason to look.
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
            () = pace.waker.woken(), if !more => more = true,
            () = pause(pace.poll.saturating_sub(polled.elapsed())), if !more => {
                work.sample().await;
                more = true;
            }
        }
    }
    while in_hand.join_next().await.is_some() {}
}
