//! The sweep: resends commands whose reply is overdue.
//!
//! It runs only while messages come in, and only for sagas whose whole wait lies in such a time: time in which no reply
//! could arrive does not count. So an outage of the broker, or of the orchestrator's own database, neither turns a saga
//! around nor makes it wait for an operator.

use std::{sync::Arc, time::Duration};

use chassis::database;
use holdfast::{backoff::pause, messaging::Link, outbox::Waker};
use metrics::gauge;
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    commands::{self, Sagas},
    error::Error,
    store::{self, Counts},
};

/// The number of sagas per transaction.
const BATCH: u16 = 100;

/// The worker that looks for overdue replies.
pub(crate) struct Sweeper {
    pub(crate) pool: PgPool,
    pub(crate) sagas: Arc<Sagas>,
    pub(crate) waker: Waker,
    pub(crate) receiving: Link,
    pub(crate) poll: Duration,
}

impl Sweeper {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        // The time since which messages have come in without a break; `None` while they do not.
        let mut hearing_since: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.receiving.down(), if hearing_since.is_some() => hearing_since = None,
                () = self.receiving.up(), if hearing_since.is_none() => hearing_since = Some(Instant::now()),
                () = pause(self.poll) => {
                    if let Err(error) = self.look(hearing_since.map(|since| since.elapsed())).await {
                        warn!(%error, "cannot look for overdue replies");
                        // Replies could not be applied either, so the time starts again.
                        hearing_since = hearing_since.map(|_| Instant::now());
                    }
                }
            }
        }
    }

    async fn look(&self, heard_for: Option<Duration>) -> Result<(), Error> {
        if let Some(heard_for) = heard_for {
            self.sweep(heard_for).await?;
        }
        let counts = store::counts(&self.pool).await?;
        show(&counts);
        Ok(())
    }

    /// Sweeps batch after batch, each in its own transaction, until a batch is not full.
    async fn sweep(&self, heard_for: Duration) -> Result<(), Error> {
        loop {
            let mut tx = database::begin(&self.pool, "sweep").await?;
            let (found, tally) = commands::sweep(&mut tx, &self.sagas, BATCH, heard_for).await?;
            tx.commit().await?;
            tally.count();
            if found > 0 {
                self.waker.wake();
            }
            if found < usize::from(BATCH) {
                return Ok(());
            }
        }
    }
}

/// Sets the gauges of sagas by phase.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn show(counts: &Counts) {
    gauge!("sagas_by_phase", "phase" => "running").set(counts.running as f64);
    gauge!("sagas_by_phase", "phase" => "compensating").set(counts.compensating as f64);
    gauge!("sagas_by_phase", "phase" => "stuck").set(counts.stuck as f64);
    gauge!("sagas_by_phase", "phase" => "broken").set(counts.broken as f64);
    gauge!("sagas_stuck").set(counts.stuck as f64);
    gauge!("sagas_broken").set(counts.broken as f64);
    gauge!("sagas_oldest_seconds").set(counts.oldest_seconds);
}
