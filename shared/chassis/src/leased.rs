//! Outward work that must not be lost: rows that are claimed by leases, worked on outside of any transaction, and
//! updated with the outcome.
//!
//! A claim sets a row's due time to the end of its lease, on the database's clock. A worker that dies need not report
//! it: the lease ends, and the row is due again. So the work may be done twice, and must be idempotent.
//!
//! A worker that was stopped for longer than its lease comes late: the row may be another worker's by then. So its
//! writes about the row's future (when it is due again, that it has failed) name the lease that it was claimed by, and
//! match no other; only a fact that ends the work for every worker, such as a delivery, is written in any case. The
//! outcome is stored with [`insist`]: work that was done and not recorded is done again.

use std::{future::Future, sync::Arc, time::Duration};

use holdfast::{
    backoff::{Backoff, pause},
    deadline::Deadline,
    transaction::{Class, classify},
};
use tokio::{sync::Notify, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

/// A kind of work on leased rows.
pub trait LeasedWork: Send + Sync + 'static {
    /// A claimed row.
    type Claimed: Send + 'static;

    /// Claims up to `limit` rows that are due, for the longest that the work on one can take.
    fn claim(&self, limit: i64) -> impl Future<Output = sqlx::Result<Vec<Self::Claimed>>> + Send;

    /// Works on a row, and stores the outcome. Must be idempotent: after a crash it is done again.
    fn work(&self, claimed: Self::Claimed) -> impl Future<Output = ()> + Send;

    /// Sets gauges. Called now and then while there is little to do.
    fn sample(&self) -> impl Future<Output = ()> + Send;
}

/// The concurrency of the work, and its wake-ups.
#[derive(Clone, Debug)]
pub struct Pace {
    /// The number of rows that are worked on at a time.
    pub concurrency: usize,
    /// The time between two looks for due rows, if nothing wakes the worker.
    pub poll: Duration,
    /// Wakes the worker, by [`Notify::notify_one`], after a row that is due has been committed.
    pub waker: Arc<Notify>,
}

/// Stores the outcome of a row's work: tries until that succeeds or the row's lease is over. `store` is told whether an
/// earlier try may have committed although its reply was lost.
///
/// Returns the last try's error; at once, if another try cannot help.
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
