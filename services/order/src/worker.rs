//! Work that no message causes: deadlines and sweeps.
//!
//! Both need messages to come in, for as long as the wait itself: time in which an answer could not have arrived does
//! not count. So an outage of the broker or of our database, or a queue that an operator paused, cancels no order, and
//! makes none wait for an operator.

use std::time::Duration;

use chassis::database;
use holdfast::{backoff::pause, messaging::Link, outbox::Waker};
use metrics::gauge;
use sqlx::PgPool;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    commands::{self, Swept},
    config::WaitingSettings,
    error::Error,
    store,
};

/// The most orders in one transaction.
const BATCH: u16 = 100;

/// A task that looks for deadlines and missing answers.
pub(crate) struct Sweeper {
    pub(crate) pool: PgPool,
    pub(crate) waker: Waker,
    pub(crate) receiving: Link,
    pub(crate) waiting: WaitingSettings,
}

impl Sweeper {
    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let poll = Duration::from_millis(self.waiting.worker_poll_ms);
        // The time since which messages have come in without a break; `None` while they do not.
        let mut hearing_since: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.receiving.down(), if hearing_since.is_some() => hearing_since = None,
                () = self.receiving.up(), if hearing_since.is_none() => hearing_since = Some(Instant::now()),
                () = pause(poll) => {
                    if let Err(error) = self.look(hearing_since.map(|since| since.elapsed())).await {
                        warn!(%error, "cannot look for deadlines and sweeps");
                        // Answers could not be handled, either: the wait starts again.
                        hearing_since = hearing_since.map(|_| Instant::now());
                    }
                }
            }
        }
    }

    async fn look(&self, heard_for: Option<Duration>) -> Result<(), Error> {
        if let Some(heard_for) = heard_for {
            if heard_for >= self.waiting.deadline() {
                self.until_none(Chore::GiveUpOverdue).await?;
            }
            self.until_none(Chore::Sweep { heard_for }).await?;
        }
        let retention = Duration::from_secs(self.waiting.idempotency_retention_hours * 3600);
        while store::forget_old(&self.pool, retention, BATCH.into()).await? == u64::from(BATCH) {}
        let counts = store::counts(&self.pool).await?;
        #[expect(clippy::cast_precision_loss, reason = "counts of rows")]
        {
            gauge!("orders_stuck").set(counts.stuck as f64);
            gauge!("orders_awaiting_answer").set(counts.awaiting as f64);
        }
        gauge!("orders_oldest_unrested_seconds").set(counts.oldest_seconds);
        Ok(())
    }

    /// Handles one batch after the other, each in a transaction of its own, until one is not full.
    async fn until_none(&self, chore: Chore) -> Result<(), Error> {
        loop {
            let mut tx = database::begin(&self.pool, chore.name()).await?;
            let (found, published) = match chore {
                Chore::GiveUpOverdue => {
                    let given_up =
                        commands::give_up_overdue(&mut tx, BATCH.into(), &self.waiting).await?;
                    (given_up, given_up)
                }
                Chore::Sweep { heard_for } => {
                    let Swept { asked_again, stuck } =
                        commands::sweep(&mut tx, BATCH.into(), heard_for, &self.waiting).await?;
                    (asked_again + stuck, asked_again)
                }
            };
            tx.commit().await?;
            if published > 0 {
                self.waker.wake();
            }
            if found < usize::from(BATCH) {
                return Ok(());
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Chore {
    GiveUpOverdue,
    Sweep { heard_for: Duration },
}

impl Chore {
    /// Returns the name of its transaction's span.
    fn name(self) -> &'static str {
        match self {
            Self::GiveUpOverdue => "give up overdue",
            Self::Sweep { .. } => "sweep",
        }
    }
}
