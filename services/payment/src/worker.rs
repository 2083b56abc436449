//! Asks the card company, for each payment that waits for it, until there is a definite answer.
//!
//! The intent was stored with the message that led to it; a worker claims it by a lease, asks, and stores the answer. It may
//! die anywhere in between: then the lease ends, and the same question is asked again under the same key.

use std::time::Duration;

use chassis::{database, dependencies, leased::LeasedWork};
use contracts::value::{CustomerId, PaymentMethod};
use holdfast::{
    backoff::Backoff,
    deadline::Deadline,
    distributed_lock::{Fence, Lock},
    failpoint,
    outbox::Waker,
    telemetry,
};
use metrics::{counter, gauge, histogram};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use tracing::{Instrument, Span, debug, error, field::Empty, info_span, warn};

use crate::{
    client::{self, Accounts, CardCompany},
    commands::{self, CardAnswer},
    config::CardSettings,
    domain::{Input, State},
    error::Error,
    store::{self, Claimed, Due, Payment},
};

/// How long to leave alone what could not be asked now.
const NOT_ASKED: Duration = Duration::from_secs(1);

/// Asks the card company.
pub(crate) struct CardWorker {
    pool: PgPool,
    company: CardCompany,
    accounts: Accounts,
    /// How long to leave a payment alone whose account is locked.
    busy: Backoff,
    /// Wakes the outbox's relay.
    relay: Waker,
    /// Wakes this worker.
    waker: Waker,
    backoff: Backoff,
    /// How long a claim is ours: longer than asking and storing the answer can take.
    lease: Duration,
}

/// The lock under which we work, and whose account it is.
#[derive(Clone, Copy)]
struct Held<'a> {
    lock: &'a Lock,
    customer: &'a CustomerId,
}

/// What the database has seen of an account's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    /// Nobody newer.
    Newest,
    /// Somebody newer; and fencing is switched off.
    Overtaken,
}

/// Whether the payment still waits for what was claimed.
fn is_due(claimed: &Claimed, payment: &Payment) -> bool {
    matches!(
        (claimed.due, payment.state),
        (Due::Charge, State::Charging { .. }) | (Due::Refund, State::Refunding)
    )
}

impl LeasedWork for CardWorker {
    type Claimed = Claimed;

    async fn claim(&self, limit: i64) -> sqlx::Result<Vec<Claimed>> {
        match dependencies::worth_asking(self.company.pipeline(), limit) {
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
        })
    }

    /// Asks for this payment while nobody else asks for its account.
    async fn under_the_lock(&self, claimed: &Claimed) {
        let Some(customer) = &claimed.customer else {
            return error!("a payment of nobody waits for the card company: a defect");
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
            // An operator may have ended it, or somebody else's answer have come, before we had the lock.
            Ok(Some(payment)) if is_due(claimed, &payment) => {
                commands::facts(&payment).describe(&Span::current());
                self.ask(claimed, &payment, held).await;
            }
            Ok(_) => {}
            Err(Error::Overtaken(newest)) => self.overtaken(claimed, newest).await,
            Err(error) => warn!(%error, "cannot read a payment; its lease will end"),
        }
        // An error is taken care of in the background: at the latest its time is over.
        let _ = lock.release().await;
    }

    /// Shows the lock, and reads the payment as it is then.
    async fn pass(&self, claimed: &Claimed, held: Held<'_>) -> Result<Option<Payment>, Error> {
        let mut tx = database::begin(&self.pool, "lock account").await?;
        self.show(&mut tx, held).await?;
        let payment = store::find(&mut *tx, claimed.order_id).await?;
        tx.commit().await?;
        Ok(payment)
    }

    /// Shows the lock to the database: [`Error::Overtaken`], if somebody newer was here. Where a drill has switched fencing
    /// off, it answers that it would be.
    async fn show(&self, conn: &mut PgConnection, held: Held<'_>) -> Result<Shown, Error> {
        match store::pass(conn, held.customer, held.lock).await? {
            Ok(()) => Ok(Shown::Newest),
            Err(newest) if self.accounts.are_fenced() => Err(Error::Overtaken(newest)),
            Err(_) => Ok(Shown::Overtaken),
        }
    }

    /// We were overtaken: what we know is old, and what we were about to write is somebody else's now.
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
            // Nobody knows any more that we are the only one who asks.
            () = held.lock.lost() => None,
        };
        let Some(answer) = answer else {
            return self
                .put_back(claimed, self.busy.delay(0), "the account's lock was lost")
                .await;
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

    /// Asks the card company; `None`, if there is nothing to ask.
    async fn call(
        &self,
        claimed: &Claimed,
        payment: &Payment,
    ) -> Option<Result<CardAnswer, client::Error>> {
        Some(match (claimed.due, &payment.terms, payment.charge_id) {
            (Due::Charge, Some(terms), _) => match &terms.method {
                PaymentMethod::Card { token } => {
                    self.company
                        .charge(claimed.order_id, token, terms.amount)
                        .await
                }
                PaymentMethod::Wallet => {
                    error!("a wallet payment waits for the card company: a defect");
                    return None;
                }
            },
            (Due::Refund, _, Some(charge)) => self.company.refund(claimed.order_id, charge).await,
            _ => {
                error!("a payment without terms or charge waits for the card company: a defect");
                return None;
            }
        })
    }

    /// Stores a definite answer. While the database is away it tries again, for as long as the claim is ours: the answer
    /// could be asked for again, but why should it.
    async fn store(&self, claimed: &Claimed, answer: CardAnswer, held: Held<'_>, begun: Instant) {
        let mut delays = Backoff::RECONNECT.delays();
        let lease = Deadline::after(self.lease.saturating_sub(begun.elapsed()));
        loop {
            match self.outcome(claimed, answer, held).await {
                Ok(()) => return,
                Err(Error::Overtaken(newest)) => return self.overtaken(claimed, newest).await,
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
            warn!(order.id = %claimed.order_id, fence = %held.lock.fence(), "wrote late: fencing is switched off");
        }
        self.relay.wake();
        // It was captured when it had been cancelled already: that is to be refunded now.
        if state == State::Refunding {
            self.waker.wake();
        }
        Ok(())
    }

    async fn put_off(&self, claimed: &Claimed, error: &client::Error) {
        let (delay, asked) = match error {
            // Somebody else's calls opened the breaker since this was claimed.
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
        warn!(order.id = %claimed.order_id, attempt = claimed.attempts, %error, ?delay, "no definite answer; asking again");
        if let Err(error) = self.note(claimed, delay, &error.to_string()).await {
            warn!(%error, "cannot note that; the lease will end");
        }
    }

    /// It was not asked, and is due again after `delay`.
    async fn put_back(&self, claimed: &Claimed, delay: Duration, why: &str) {
        debug!(order.id = %claimed.order_id, why, ?delay, "not asked");
        if let Err(error) = store::put_back(&self.pool, claimed, delay).await {
            warn!(%error, "cannot put it back; the lease will end");
        }
    }

    async fn note(&self, claimed: &Claimed, delay: Duration, error: &str) -> Result<(), Error> {
        Ok(store::put_off(&self.pool, claimed, delay, error).await?)
    }
}
