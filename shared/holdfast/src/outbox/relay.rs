//! The relay: publishes committed rows.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use sqlx::PgPool;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Backlog, Message, Outcome, Publisher, Waker, backlog, store};
use crate::{backoff::Backoff, failpoint, transaction};

/// The error on record for a row that the broker nacked.
const NACKED: &str = "the broker could not store it (nack)";

/// The settings of a [`Relay`].
#[derive(Clone, Debug)]
pub struct Config {
    /// The number of rows per transaction. More is faster, and repeats more after a crash.
    pub batch: u16,
    /// The time after which the relay looks for rows even if it was not woken.
    pub poll: Duration,
    /// The time that a woken relay waits for further rows, if its last round had more than one. So transactions are
    /// fewer and larger under load, and a single message leaves at once.
    pub linger: Duration,
    /// The number of refusals after which a row is quarantined.
    pub max_attempts: u16,
    /// The wait of a row that was refused, or that the broker could not store.
    pub backoff: Backoff,
    /// The interval at which `outbox_waiting`, `outbox_quarantined` and `outbox_oldest_seconds` are sampled.
    pub sample: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch: 200,
            poll: Duration::from_millis(100),
            linger: Duration::from_millis(10),
            max_attempts: 10,
            backoff: Backoff::RECONNECT,
            sample: Duration::from_secs(5),
        }
    }
}

/// The task that publishes committed rows. Any number of relays may run on one table.
#[derive(Debug)]
pub struct Relay<P> {
    pool: PgPool,
    publisher: P,
    waker: Waker,
    config: Config,
}

/// The reason for which a round ended early. The rows stay; the caller waits and goes on.
#[derive(Debug, thiserror::Error)]
enum Interrupted {
    #[error(transparent)]
    Broker(#[from] super::Unavailable),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// The result of a round, in rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Round {
    claimed: usize,
    confirmed: usize,
    /// Neither confirmed nor refused: the connection broke before the reply.
    unknown: usize,
}

impl<P: Publisher> Relay<P> {
    /// Returns a relay that publishes the rows of `pool`'s outbox through `publisher`.
    pub fn new(pool: PgPool, publisher: P, waker: Waker, config: Config) -> Self {
        Self {
            pool,
            publisher,
            waker,
            config,
        }
    }

    /// Publishes until `shutdown`, then once more what is committed by then, for at most 5 s.
    ///
    /// The gauges are sampled beside the loop, never in it: the broker may hold up the loop in any of its states, and
    /// that is when the gauges are needed. If this is dropped, an open claim is rolled back, and its rows are published
    /// again.
    pub async fn run(self, shutdown: CancellationToken) {
        describe();
        let ended = CancellationToken::new();
        let relaying = async {
            self.relay(&shutdown).await;
            ended.cancel();
        };
        tokio::join!(relaying, self.sample_until(&ended));
    }

    /// Publishes until `shutdown`, then once more what is committed by then.
    async fn relay(&self, shutdown: &CancellationToken) {
        let mut delays = Backoff::RECONNECT.delays();
        while !shutdown.is_cancelled() {
            match self.round().await {
                // More rows may wait: claim them at once.
                Ok(round)
                    if round.claimed == usize::from(self.config.batch) && round.unknown == 0 =>
                {
                    delays.reset();
                }
                Ok(round) if round.unknown > 0 => tokio::select! {
                    () = delays.wait() => {}
                    () = shutdown.cancelled() => {}
                },
                Ok(round) => {
                    if delays.failures() > 0 {
                        info!("the outbox relay publishes again");
                        delays.reset();
                    }
                    tokio::select! {
                        () = self.woken(round) => {}
                        () = crate::backoff::pause(self.config.poll) => {}
                        () = shutdown.cancelled() => {}
                    }
                }
                Err(interrupted) => {
                    if delays.failures() == 0 {
                        warn!(%interrupted, "the outbox relay waits");
                    }
                    tokio::select! {
                        () = delays.wait() => {}
                        () = shutdown.cancelled() => {}
                    }
                }
            }
        }
        let last = timeout(Duration::from_secs(5), async {
            while matches!(self.round().await, Ok(round) if round.confirmed > 0) {}
        });
        if last.await.is_err() {
            warn!(
                "the outbox relay stopped with rows left; they are published after the next start"
            );
        }
    }

    /// Waits until there are rows, and for more of them if the last round had several.
    async fn woken(&self, last: Round) {
        self.waker.woken().await;
        if last.claimed > 1 {
            crate::backoff::pause(self.config.linger).await;
        }
    }

    /// Claims a batch, publishes it, and deletes what was confirmed.
    async fn round(&self) -> Result<Round, Interrupted> {
        self.publisher.ready().await?;
        let mut tx = transaction::begin(&self.pool).await?;
        let rows = store::claim(&mut tx, self.config.batch.into()).await?;
        if rows.is_empty() {
            return Ok(Round::default());
        }
        let seqs: Vec<(i64, i32)> = rows.iter().map(|row| (row.seq, row.attempts)).collect();
        let batch: Vec<Message> = rows.into_iter().map(store::Row::into_message).collect();

        failpoint!("outbox.before_publish");
        let outcomes = self.publisher.publish(&batch).await;
        failpoint!("outbox.after_publish");

        let mut round = Round {
            claimed: batch.len(),
            ..Round::default()
        };
        let mut confirmed = Vec::with_capacity(batch.len());
        for (((seq, attempts), outcome), message) in seqs.into_iter().zip(outcomes).zip(&batch) {
            match outcome {
                Outcome::Confirmed => confirmed.push(seq),
                Outcome::Unknown => round.unknown += 1,
                Outcome::Refused(error) => {
                    let failures = u32::try_from(attempts).unwrap_or(u32::MAX);
                    let quarantine =
                        failures.saturating_add(1) >= u32::from(self.config.max_attempts);
                    warn!(message.id = %message.id, message.routing_key, %error, quarantine, "the broker refused a message");
                    let delay = self.config.backoff.ceiling(failures).as_secs_f64();
                    store::refuse(&mut tx, seq, &error, delay, quarantine).await?;
                }
                Outcome::Nacked => {
                    warn!(message.id = %message.id, message.routing_key, "the broker could not store a message");
                    let [shortest, longest] =
                        [0, u32::MAX].map(|n| self.config.backoff.ceiling(n).as_secs_f64());
                    store::put_off(&mut tx, seq, NACKED, shortest, longest).await?;
                }
            }
        }
        round.confirmed = confirmed.len();
        store::delete(&mut tx, &confirmed).await?;
        tx.commit().await?;
        counter!("outbox_published_total").increment(confirmed.len() as u64);
        Ok(round)
    }

    /// Samples the gauges at an interval, until the relay has ended.
    async fn sample_until(&self, ended: &CancellationToken) {
        loop {
            self.sample().await;
            let pause = crate::backoff::pause(self.config.sample);
            if ended.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    /// Sets the gauges. If the database is unavailable they stay as they are.
    async fn sample(&self) {
        if let Ok(Backlog {
            waiting,
            quarantined,
            oldest_seconds,
        }) = backlog(&self.pool).await
        {
            #[expect(clippy::cast_precision_loss, reason = "counts of rows")]
            {
                gauge!("outbox_waiting").set(waiting as f64);
                gauge!("outbox_quarantined").set(quarantined as f64);
            }
            gauge!("outbox_oldest_seconds").set(oldest_seconds);
        }
    }
}

/// Registers the descriptions of the metrics.
fn describe() {
    describe_counter!(
        "outbox_published_total",
        Unit::Count,
        "Rows of the outbox that the broker confirmed and the relay deleted"
    );
    describe_gauge!(
        "outbox_waiting",
        Unit::Count,
        "Rows of the outbox that wait to be published"
    );
    describe_gauge!(
        "outbox_quarantined",
        Unit::Count,
        "Rows of the outbox that the broker refused too often, and that wait for an operator"
    );
    describe_gauge!(
        "outbox_oldest_seconds",
        Unit::Seconds,
        "Age of the oldest row of the outbox"
    );
}
