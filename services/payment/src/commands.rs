//! The use cases, each on the caller's transaction.

mod answer;

use std::collections::{BTreeMap, HashSet};

use chassis::{
    events::{Answering, Publishing},
    tally::Tally,
    trace::OrderFacts,
};
use contracts::{
    payment::DeclineReason,
    value::{CustomerId, Money, OrderId, PaymentMethod},
};
use holdfast::{failpoint, messaging::Incoming, outbox, telemetry};
use metrics::counter;
use sqlx::PgConnection;
use tracing::Span;
use uuid::Uuid;

use self::answer::message;
use crate::{
    domain::{Answer, Booking, Decision, Input, Means, State, decide},
    error::Error,
    store::{self, AccountKey, Payment, Settlement, Terms},
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "payment",
    cause: None,
};

/// What a message asks of a payment.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Take the money.
    Charge(Terms),
    /// Give it back.
    Cancel,
    /// Write it off.
    Settle { operator: String, note: String },
}

/// One message about an order.
pub(crate) struct Told<'a> {
    pub(crate) order: OrderId,
    pub(crate) order_version: u32,
    pub(crate) command: &'a Command,
    pub(crate) event: &'a Incoming,
    /// Where it is answered.
    pub(crate) answering: Answering<'a>,
    /// What is published because of it belongs to this trace.
    pub(crate) span: &'a Span,
}

/// Applies a batch of messages: locks payments, then wallets, each in one order; folds the messages over them in memory;
/// writes each row once. Answers what to count once that is committed.
pub(crate) async fn apply(conn: &mut PgConnection, batch: &[Told<'_>]) -> Result<Tally, Error> {
    let mut ids: Vec<OrderId> = batch.iter().map(|told| told.order).collect();
    ids.sort_unstable();
    ids.dedup();
    let mut payments = store::lock(conn, &ids).await?;
    let known: HashSet<OrderId> = payments.keys().copied().collect();

    let asked = batch.iter().filter_map(|told| match told.command {
        Command::Charge(terms) => Some(terms),
        _ => None,
    });
    let held = payments
        .values()
        .filter_map(|payment| payment.terms.as_ref());
    let mut keys: Vec<AccountKey> = asked.chain(held).filter_map(account).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut balances = store::lock_accounts(conn, &keys).await?;
    let before = balances.clone();

    let mut tally = Tally::default();
    let mut messages = Vec::new();
    let mut settlements = Vec::new();
    let mut touched = HashSet::new();
    for told in batch {
        let current = payments.remove(&told.order);
        let input = match told.command {
            Command::Charge(terms) => Input::Charge(means(terms, &balances)),
            Command::Cancel => Input::Cancel,
            Command::Settle { .. } => Input::Settle,
        };
        let was = current.as_ref().map(|current| current.state);
        let Decision {
            state,
            booking,
            answer,
        } = decide(was, input)?;
        let mut payment = current.unwrap_or_else(|| new(told));
        facts(&payment).describe(told.span);
        payment.order_version = payment.order_version.max(told.order_version);
        if was != Some(state) || asks_anew(told, &payment, answer) {
            // The card company's answer to what begins now will be caused by this message, and be the answer to it.
            payment.causation_id = Some(told.event.id);
            payment.trace = telemetry::trace_context_of(told.span);
            payment.reply_key = told.answering.key().map(str::to_owned);
        }
        if let (
            Some(State::Charging { .. } | State::Captured(_) | State::Refunding),
            State::Settled,
        ) = (was, state)
            && let Command::Settle { operator, note } = told.command
        {
            let was_captured = !matches!(was, Some(State::Charging { .. }));
            settlements.push((told.order, was_captured, operator, note));
        }
        payment.state = state;
        if was != Some(state) {
            moved(&mut tally, &payment);
        }
        if let Some(booking) = booking {
            book(&mut balances, &payment, booking)?;
        }
        if let Some(answer) = answer {
            let publishing = PUBLISHING.because_of(told.event);
            messages.push(
                told.span
                    .in_scope(|| message(&publishing, told.answering, &payment, answer))?,
            );
        }
        payments.insert(told.order, payment);
        touched.insert(told.order);
    }

    let changed = payments
        .values()
        .filter(|payment| touched.contains(&payment.order_id))
        .cloned();
    let (old, new): (Vec<_>, Vec<_>) =
        changed.partition(|payment| known.contains(&payment.order_id));
    if store::insert(conn, &new).await? < new.len() {
        return Err(Error::Raced);
    }
    store::update(conn, &old).await?;
    balances.retain(|key, balance| before.get(key) != Some(balance));
    store::save_accounts(conn, &balances).await?;
    failpoint!("payment.mid_batch");
    for (order_id, was_captured, operator, note) in settlements {
        if let Some(terms) = payments
            .get(&order_id)
            .and_then(|payment| payment.terms.as_ref())
        {
            store::settle(
                conn,
                &Settlement {
                    order_id,
                    terms,
                    was_captured,
                    operator,
                    note,
                },
            )
            .await?;
        }
    }
    outbox::enqueue(conn, &messages).await?;
    Ok(tally)
}

impl Payment {
    /// Where the card company's answer will be told.
    fn answering(&self) -> Answering<'_> {
        self.reply_key.as_deref().into()
    }
}

/// Whether this is an undo that waits for the card company, as one of somebody else does already: another saga's.
///
/// One answer will come, and the row holds one name: the answer goes to whoever asked last. The other asks again, as
/// everybody does who gets no answer, and then it is known. A charge that is asked for again takes the answer from nobody:
/// where an undo waits, the charge is not what matters any more.
fn asks_anew(told: &Told<'_>, payment: &Payment, answer: Option<Answer>) -> bool {
    matches!(told.command, Command::Cancel)
        && answer.is_none()
        && told.answering != payment.answering()
}

/// Counts what became of a payment, and of how much money.
fn moved(tally: &mut Tally, payment: &Payment) {
    let (outcome, reason) = match payment.state {
        State::Captured(_) => ("captured", "none"),
        State::Declined(reason) => ("declined", store::reason_name(reason)),
        State::Refunded => ("refunded", "none"),
        State::Settled => ("settled", "none"),
        State::Charging { .. } | State::Refunding | State::Void => return,
    };
    // Settled before anybody named an amount.
    let Some(terms) = &payment.terms else { return };
    let method = match terms.method {
        PaymentMethod::Wallet => "wallet",
        PaymentMethod::Card { .. } => "card",
    };
    tally.add(
        counter!("payments_total", "outcome" => outcome, "method" => method, "reason" => reason),
        1,
    );
    let currency = terms.amount.currency.to_string();
    tally.add(
        counter!("payments_minor_units_total", "outcome" => outcome, "method" => method, "currency" => currency),
        u64::try_from(terms.amount.amount_minor).unwrap_or(0),
    );
}

/// What traces say about a payment.
pub(crate) fn facts(payment: &Payment) -> OrderFacts<'_> {
    let facts = OrderFacts::of(payment.order_id);
    match &payment.terms {
        None => facts,
        Some(terms) => facts
            .amount(terms.amount)
            .items(terms.lines.iter().map(|line| line.quantity.get()))
            .payment(&terms.method),
    }
}

/// The wallet that is charged, if it is one.
fn account(terms: &Terms) -> Option<AccountKey> {
    match terms.method {
        PaymentMethod::Wallet => Some(AccountKey {
            customer: terms.customer.clone(),
            currency: terms.amount.currency,
        }),
        PaymentMethod::Card { .. } => None,
    }
}

/// How these terms can be met from what is there now.
fn means(terms: &Terms, balances: &BTreeMap<AccountKey, i64>) -> Means {
    match account(terms) {
        None => Means::Card,
        Some(key) => Means::Wallet(match balances.get(&key) {
            None => Err(DeclineReason::NoAccount),
            Some(balance) if *balance < terms.amount.amount_minor => {
                Err(DeclineReason::InsufficientFunds)
            }
            Some(_) => Ok(()),
        }),
    }
}

/// A payment that nothing is known of but this message.
fn new(told: &Told<'_>) -> Payment {
    let terms = match told.command {
        Command::Charge(terms) => Some(terms.clone()),
        Command::Cancel | Command::Settle { .. } => None,
    };
    Payment {
        order_id: told.order,
        state: State::Void,
        terms,
        charge_id: None,
        order_version: told.order_version,
        causation_id: None,
        trace: None,
        reply_key: None,
        attempts: 0,
        last_error: None,
        updated_at: time::OffsetDateTime::UNIX_EPOCH, // set by the database
    }
}

fn book(
    balances: &mut BTreeMap<AccountKey, i64>,
    payment: &Payment,
    booking: Booking,
) -> Result<(), Error> {
    let terms = payment.terms.as_ref().ok_or(Error::NoTerms)?;
    let balance = account(terms)
        .and_then(|key| balances.get_mut(&key))
        .ok_or(Error::NoAccount)?;
    let amount = terms.amount.amount_minor;
    let after = match booking {
        Booking::Debit => balance.checked_sub(amount),
        Booking::Credit => balance.checked_add(amount),
    };
    *balance = after.filter(|after| *after >= 0).ok_or(Error::Balance)?;
    Ok(())
}

/// A definite answer of the card company.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CardAnswer {
    pub(crate) input: Input,
    pub(crate) charge_id: Option<Uuid>,
}

/// Takes in an answer of the card company; answers what to count once that is committed, and what the payment is then. The
/// row is read again under its lock: a cancel may have come while we asked.
pub(crate) async fn card_answered(
    conn: &mut PgConnection,
    id: OrderId,
    answer: CardAnswer,
) -> Result<(Tally, State), Error> {
    let mut payment = store::lock_one(conn, id).await?.ok_or(Error::NoTerms)?;
    let Decision {
        state,
        answer: published,
        ..
    } = decide(Some(payment.state), answer.input)?;
    let changed = state != payment.state;
    payment.state = state;
    payment.charge_id = payment.charge_id.or(answer.charge_id);
    let mut tally = Tally::default();
    if changed {
        store::update(conn, std::slice::from_ref(&payment)).await?;
        moved(&mut tally, &payment);
    }
    if let Some(published) = published {
        let mut message = message(&PUBLISHING, payment.answering(), &payment, published)?;
        if let Some(cause) = payment.causation_id {
            message
                .headers
                .insert("cloudEvents_causationid".to_owned(), cause.to_string());
        }
        outbox::enqueue(conn, &[message]).await?;
    }
    Ok((tally, state))
}

/// Pays money into a wallet; answers whether this deposit is new.
pub(crate) async fn deposit(
    conn: &mut PgConnection,
    key: &str,
    customer: &CustomerId,
    amount: Money,
    operator: &str,
) -> Result<bool, Error> {
    match store::deposit(conn, key, customer, amount, operator).await? {
        None => Ok(true),
        Some((before, paid)) if before == *customer && paid == amount => Ok(false),
        Some(_) => Err(Error::OtherDeposit),
    }
}
