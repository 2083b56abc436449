//! Asks the card company, for each payment that waits for it, until there is a definite answer.
//!
//! The intent was stored with the message that led to it; a worker claims it by a lease, asks, and stores the answer. It may
//! die anywhere in between: then the lease ends, and the same question is asked again under the same key.

use std::time::Duration;

use chassis::{client, database, leased::LeasedWork};
use contracts::value::PaymentMethod;
use holdfast::{backoff::Backoff, deadline::Deadline, failpoint, outbox::Waker, telemetry};
use metrics::{counter, gauge, histogram};
use sqlx::PgPool;
use tokio::time::Instant;
use tracing::{Instrument, Span, error, field::Empty, info_span, warn};

use crate::{
    client::CardCompany,
    commands::{self, CardAnswer},
    config::CardSettings,
    domain::{Input, State},
    error::Error,
    store::{self, Claimed, Due},
};

/// Asks the card company.
pub(crate) struct CardWorker {
    pool: PgPool,
    company: CardCompany,
    /// Wakes the outbox's relay.
    relay: Waker,
    /// Wakes this worker.
    waker: Waker,
    backoff: Backoff,
    /// How long a claim is ours: longer than asking and storing the answer can take.
    lease: Duration,
}

impl LeasedWork for CardWorker {
    type Claimed = Claimed;

    async fn claim(&self, limit: i64) -> sqlx::Result<Vec<Claimed>> {
        store::claim(&self.pool, limit, self.lease).await
    }

    async fn work(&self, claimed: Claimed) {
        let payment = match store::find(&self.pool, claimed.order_id).await {
            Ok(Some(payment)) => payment,
            Ok(None) => return,
            Err(error) => return warn!(%error, "cannot read a payment; its lease will end"),
        };
        // An operator may have ended it between the claim and this look.
        if !matches!(
            (claimed.due, payment.state),
            (Due::Charge, State::Charging { .. }) | (Due::Refund, State::Refunding)
        ) {
            return;
        }
        let span = info_span!("card call", order.id = %claimed.order_id, trace_id = Empty);
        telemetry::adopt(&span, payment.traceparent.as_deref());
        commands::facts(&payment).describe(&span);
        let operation = match claimed.due {
            Due::Charge => "charge",
            Due::Refund => "refund",
        };
        telemetry::attribute(&span, "payment.operation", operation);
        telemetry::attribute(&span, "holdfast.attempt", i64::from(claimed.attempts));
        self.ask(&claimed, &payment).instrument(span).await;
    }

    async fn sample(&self) {
        if let Ok(count) = store::in_hand(&self.pool).await {
            #[expect(clippy::cast_precision_loss, reason = "a count of rows")]
            gauge!("payments_waiting_for_card_company").set(count as f64);
        }
    }
}

impl CardWorker {
    pub(crate) fn new(
        pool: PgPool,
        company: CardCompany,
        relay: Waker,
        waker: Waker,
        settings: &CardSettings,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool,
            company,
            relay,
            waker,
            backoff: Backoff::new(
                Duration::from_millis(100),
                Duration::from_millis(settings.card_backoff_cap_ms),
            )?,
            lease: Duration::from_millis(settings.card_timeout_ms) + Duration::from_secs(10),
        })
    }

    async fn ask(&self, claimed: &Claimed, payment: &store::Payment) {
        let begun = Instant::now();
        failpoint!("payment.before_card_call");
        let answer = match (claimed.due, &payment.terms, payment.charge_id) {
            (Due::Charge, Some(terms), _) => match &terms.method {
                PaymentMethod::Card { token } => {
                    self.company
                        .charge(claimed.order_id, token, terms.amount)
                        .await
                }
                PaymentMethod::Wallet => {
                    return error!("a wallet payment waits for the card company: a defect");
                }
            },
            (Due::Refund, _, Some(charge)) => self.company.refund(claimed.order_id, charge).await,
            _ => {
                return error!(
                    "a payment without terms or charge waits for the card company: a defect"
                );
            }
        };
        failpoint!("payment.after_card_call");
        let outcome = match &answer {
            Ok(answer) => match answer.input {
                Input::CardCaptured => "captured",
                Input::CardDeclined(_) => "declined",
                _ => "refunded",
            },
            Err(_) => "unknown",
        };
        histogram!("card_call_duration_seconds", "outcome" => outcome).record(begun.elapsed());
        match answer {
            Ok(answer) => self.store(claimed, answer, begun).await,
            Err(error) => {
                telemetry::fail(&Span::current(), "no_answer", &error);
                self.put_off(claimed, &error).await;
            }
        }
    }

    /// Stores a definite answer. While the database is away it tries again, for as long as the claim is ours: the answer
    /// could be asked for again, but why should it.
    async fn store(&self, claimed: &Claimed, answer: CardAnswer, begun: Instant) {
        let mut delays = Backoff::RECONNECT.delays();
        let lease = Deadline::after(self.lease.saturating_sub(begun.elapsed()));
        loop {
            match self.outcome(claimed, answer).await {
                Ok(()) => return,
                Err(Error::Database(error)) if lease.remaining().is_some() => {
                    warn!(%error, "cannot store the card company's answer yet");
                    delays.wait().await;
                }
                Err(error) => {
                    error!(%error, ?answer, "cannot store the card company's answer");
                    if !matches!(error, Error::Database(_)) {
                        counter!("card_answers_refused_total").increment(1);
                    }
                    let _ = self
                        .note(claimed, self.backoff.ceiling(u32::MAX), &error.to_string())
                        .await;
                    return;
                }
            }
        }
    }

    async fn outcome(&self, claimed: &Claimed, answer: CardAnswer) -> Result<(), Error> {
        let mut tx = database::begin(&self.pool, "store card answer").await?;
        let (tally, state) = commands::card_answered(&mut tx, claimed.order_id, answer).await?;
        tx.commit().await?;
        tally.count();
        self.relay.wake();
        // It was captured when it had been cancelled already: that is to be refunded now.
        if state == State::Refunding {
            self.waker.wake();
        }
        Ok(())
    }

    async fn put_off(&self, claimed: &Claimed, error: &client::Error) {
        let delay = match error {
            client::Error::Unavailable {
                retry_after: Some(after),
                ..
            } => (*after).min(self.backoff.ceiling(u32::MAX)),
            _ => self.backoff.delay(claimed.attempts.saturating_sub(1)),
        };
        warn!(order.id = %claimed.order_id, attempt = claimed.attempts, %error, ?delay, "no definite answer; asking again");
        if let Err(error) = self.note(claimed, delay, &error.to_string()).await {
            warn!(%error, "cannot note that; the lease will end");
        }
    }

    async fn note(&self, claimed: &Claimed, delay: Duration, error: &str) -> Result<(), Error> {
        let mut conn = self.pool.acquire().await?;
        Ok(store::put_off(&mut conn, claimed.order_id, delay, error).await?)
    }
}
