//! Calls the card processor for each payment that waits for it, until there is a definite answer.
//!
//! The intent was stored with the message that led to it. A worker claims the payment by a lease, calls, and stores the
//! answer. It may die at any point in between: then the lease ends, and the call is resent under the same idempotency
//! key.

mod impossible;

use std::time::Duration;

use chassis::database;
use contracts::value::{CustomerId, PaymentMethod};
use holdfast::{
    backoff::Backoff,
    deadline::Deadline,
    distributed_lock::{Fence, Lock},
    failpoint,
    leased_work::LeasedWork,
    outbox::Waker,
    telemetry,
};
use metrics::{counter, gauge, histogram};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, error, field::Empty, info_span, warn};

use self::impossible::{Impossible, Logged};
use crate::{
    client::{self, Accounts, CardCompany},
    commands::{self, CardAnswer},
    config::CardSettings,
    domain::{Input, State},
    error::Error,
    store::{self, Claimed, Due, Payment},
};

/// The delay until a payment is due again after a call that was not made, unless the error names one.
const NOT_ASKED: Duration = Duration::from_secs(1);

/// The worker that calls the card processor.
pub(crate) struct CardWorker {
    pool: PgPool,
    company: CardCompany,
    accounts: Accounts,
    /// The delay until a payment is due again after its account was found locked.
    busy: Backoff,
    /// The waker of the outbox's relay.
    relay: Waker,
    /// The waker of this worker.
    waker: Waker,
    backoff: Backoff,
    /// The length of a claim's lease: longer than the call and storing its answer can take.
    lease: Duration,
    logged: Logged,
}

/// An account's lock that this process holds, and the customer whose account it is.
#[derive(Clone, Copy)]
struct Held<'a> {
    lock: &'a Lock,
    customer: &'a CustomerId,
}

/// The result of a check of a lock's fence against the newest one that the database has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// No newer holder has been seen.
    Newest,
    /// A newer holder has been seen, but fencing is switched off: the write is not refused.
    Overtaken,
}

/// Returns true if the payment still waits for the operation that was claimed.
fn is_due(claimed: &Claimed, payment: &Payment) -> bool {
    matches!(
        (claimed.due, payment.state),
        (Due::Charge, State::Charging { .. }) | (Due::Refund, State::Refunding)
    )
}

impl LeasedWork for CardWorker {
    type Claimed = Claimed;

    async fn claim(&self, limit: i64) -> sqlx::Result<Vec<Claimed>> {
        match self.company.dependency().worth_asking(limit) {
            0 => Ok(Vec::new()),
            limit => store::claim(&self.pool, limit, self.lease).await,
        }
    }

    async fn work(&self, claimed: Claimed) {
        let span = info_span!("card call", order.id = %claimed.order_id, trace_id = Empty);
        telemetry::adopt(&span, claimed.trace.as_ref());
        let operation = match claimed.due {
            Due::Charge => "charge",
            Due::Refund => "refund",
        };
        telemetry::attribute(&span, "payment.operation", operation);
        telemetry::attribute(&span, "holdfast.attempt", i64::from(claimed.attempts));
        self.under_the_lock(&claimed).instrument(span).await;
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
        accounts: Accounts,
        relay: Waker,
        waker: Waker,
        settings: &CardSettings,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            pool,
            company,
            accounts,
            busy: Backoff::new(Duration::from_millis(200), Duration::from_millis(200))?,
            relay,
            waker,
            backoff: Backoff::new(
                Duration::from_millis(100),
                Duration::from_millis(settings.card_backoff_cap_ms),
            )?,
            lease: Duration::from_millis(settings.card_timeout_ms) + Duration::from_secs(10),
            logged: Logged::default(),
        })
    }

    /// Works on a claimed payment while it holds the lock of the payment's account.
    async fn under_the_lock(&self, claimed: &Claimed) {
        let Some(customer) = &claimed.customer else {
            return self.set_aside(claimed, Impossible::NoOwner).await;
        };
        let lock = match self.accounts.try_lock(customer).await {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                return self
                    .put_back(claimed, self.busy.delay(0), "the account is locked")
                    .await;
            }
            Err(error) => return self.put_back(claimed, NOT_ASKED, &error.to_string()).await,
        };
        let held = Held {
            lock: &lock,
            customer,
        };
        failpoint!("payment.after_lock");
        match self.pass(claimed, held).await {
            // Before this worker had the lock, an operator may have settled the payment, or another worker stored its
            // answer.
            Ok(Some(payment)) if is_due(claimed, &payment) => {
                commands::facts(&payment).describe(&Span::current());
                self.ask(claimed, &payment, held).await;
            }
            Ok(_) => {}
            Err(Error::Overtaken(newest)) => self.overtaken(claimed, newest).await,
            Err(error) => warn!(%error, "cannot read a payment; its lease will end"),
        }
        // After an error the release is tried again in the background, until the lock's time to live is over.
        let _ = lock.release().await;
    }

    /// Checks the lock's fence, and reads the payment in the same transaction.
    async fn pass(&self, claimed: &Claimed, held: Held<'_>) -> Result<Option<Payment>, Error> {
        let mut tx = database::begin(&self.pool, "lock account").await?;
        self.show(&mut tx, held).await?;
        let payment = store::find(&mut *tx, claimed.order_id).await?;
        tx.commit().await?;
        Ok(payment)
    }

    /// Checks the lock's fence against the database. Returns [`Error::Overtaken`] if the database has seen a newer
    /// holder; while a drill has switched fencing off, [`Shown::Overtaken`] instead, and the caller may write.
    async fn show(&self, conn: &mut PgConnection, held: Held<'_>) -> Result<Shown, Error> {
        match store::pass(conn, held.customer, held.lock).await? {
            Ok(()) => Ok(Shown::Newest),
            Err(newest) if self.accounts.are_fenced() => Err(Error::Overtaken(newest)),
            Err(_) => Ok(Shown::Overtaken),
        }
    }

    /// Puts a payment back after a newer holder has overtaken this one: what this worker has read is old, and what it
    /// was about to write is for the newer holder to write.
    async fn overtaken(&self, claimed: &Claimed, newest: Fence) {
        counter!("account_locks_overtaken_total").increment(1);
        self.accounts.seen(newest);
        let why = Error::Overtaken(newest).to_string();
        self.put_back(claimed, self.busy.delay(0), &why).await;
    }

    async fn ask(&self, claimed: &Claimed, payment: &Payment, held: Held<'_>) {
        let begun = Instant::now();
        failpoint!("payment.before_card_call");
        let call = self.call(claimed, payment);
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            // Without the lock, another worker may be calling for the same account.
            () = held.lock.lost() => {
                return self
                    .put_back(claimed, self.busy.delay(0), "the account's lock was lost")
                    .await;
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(why) => return self.set_aside(claimed, why).await,
        };
        failpoint!("payment.after_card_call");
        let outcome = match &answer {
            Ok(answer) => match answer.input {
                Input::CardCaptured => "captured",
                Input::CardDeclined(_) => "declined",
                _ => "refunded",
            },
            Err(client::Error::Open(_) | client::Error::Full(_)) => "not_asked",
            Err(_) => "unknown",
        };
        histogram!("card_call_duration_seconds", "outcome" => outcome).record(begun.elapsed());
        match answer {
            Ok(answer) => self.store(claimed, answer, held, begun).await,
            Err(error) => {
                telemetry::fail(&Span::current(), "no_answer", &error);
                self.put_off(claimed, &error).await;
            }
        }
    }

    /// Makes the call. Fails at once if the payment lacks what the call needs.
    async fn call(
        &self,
        claimed: &Claimed,
        payment: &Payment,
    ) -> Result<Result<CardAnswer, client::Error>, Impossible> {
        match (claimed.due, &payment.terms, payment.charge_id) {
            (Due::Charge, Some(terms), _) => match &terms.method {
                PaymentMethod::Card { token } => Ok(self
                    .company
                    .charge(claimed.order_id, token, terms.amount)
                    .await),
                PaymentMethod::Wallet => Err(Impossible::Wallet),
            },
            (Due::Charge, None, _) => Err(Impossible::NoTerms),
            (Due::Refund, _, Some(charge)) => {
                Ok(self.company.refund(claimed.order_id, charge).await)
            }
            (Due::Refund, _, None) => Err(Impossible::NoCharge),
        }
    }

    /// Stores a definite answer. While the database is unavailable, it tries again until the lease ends; after that the
    /// call is resent, and the card processor gives the same answer again.
    async fn store(&self, claimed: &Claimed, answer: CardAnswer, held: Held<'_>, begun: Instant) {
        let mut delays = Backoff::RECONNECT.delays();
        let lease = Deadline::after(self.lease.saturating_sub(begun.elapsed()));
        loop {
            match self.outcome(claimed, answer, held).await {
                Ok(()) => return,
                Err(Error::Overtaken(newest)) => return self.overtaken(claimed, newest).await,
                Err(Error::Database(error)) if lease.remaining().is_some() => {
                    warn!(%error, "cannot store the card processor's answer yet");
                    delays.wait().await;
                }
                Err(error) => {
                    error!(%error, ?answer, "cannot store the card processor's answer");
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

    async fn outcome(
        &self,
        claimed: &Claimed,
        answer: CardAnswer,
        held: Held<'_>,
    ) -> Result<(), Error> {
        let mut tx = database::begin(&self.pool, "store card answer").await?;
        let shown = self.show(&mut tx, held).await?;
        let (tally, state) = commands::card_answered(&mut tx, claimed.order_id, answer).await?;
        tx.commit().await?;
        tally.count();
        if shown == Shown::Overtaken {
            counter!("account_writes_unfenced_total").increment(1);
            warn!(order.id = %claimed.order_id, fence = %held.lock.fence(), "an overtaken holder wrote: fencing is switched off");
        }
        self.relay.wake();
        // The charge was captured after the order was cancelled, so a refund is due now.
        if state == State::Refunding {
            self.waker.wake();
        }
        Ok(())
    }

    async fn put_off(&self, claimed: &Claimed, error: &client::Error) {
        let (delay, asked) = match error {
            // Other calls opened the breaker after this payment was claimed.
            client::Error::Open(rejected) => (rejected.retry_after.unwrap_or(NOT_ASKED), false),
            client::Error::Full(_) => (NOT_ASKED, false),
            client::Error::Call(chassis::client::Error::Unavailable {
                retry_after: Some(after),
                ..
            }) => ((*after).min(self.backoff.ceiling(u32::MAX)), true),
            client::Error::Call(_) => {
                let delay = self.backoff.delay(claimed.attempts.saturating_sub(1));
                (delay, true)
            }
        };
        if !asked {
            return self.put_back(claimed, delay, &error.to_string()).await;
        }
        warn!(order.id = %claimed.order_id, attempt = claimed.attempts, %error, ?delay, "no definite answer; the call will be resent");
        if let Err(error) = self.note(claimed, delay, &error.to_string()).await {
            warn!(%error, "cannot record the attempt; its lease will end");
        }
    }

    /// Makes a payment due again after `delay`, because its call was not made.
    async fn put_back(&self, claimed: &Claimed, delay: Duration, why: &str) {
        debug!(order.id = %claimed.order_id, why, ?delay, "the call was not made");
        if let Err(error) = store::put_back(&self.pool, claimed, delay).await {
            warn!(%error, "cannot put a payment back; its lease will end");
        }
    }

    /// Puts a payment back for which no call can be made, for the longest wait: its row may have been repaired by then.
    async fn set_aside(&self, claimed: &Claimed, why: Impossible) {
        if self.logged.add(claimed.order_id) {
            error!(order.id = %claimed.order_id, %why, "no call can be made for a payment (bug)");
        }
        let delay = self.backoff.ceiling(u32::MAX);
        if let Err(error) = store::set_aside(&self.pool, claimed, delay, &why.to_string()).await {
            warn!(%error, "cannot put a payment back; its lease will end");
        }
    }

    async fn note(&self, claimed: &Claimed, delay: Duration, error: &str) -> Result<(), Error> {
        Ok(store::put_off(&self.pool, claimed, delay, error).await?)
    }
}
