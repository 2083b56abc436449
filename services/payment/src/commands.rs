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

/// The request that a message makes of a payment.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// A charge by these terms.
    Charge(Terms),
    /// An undo: a refund, or a tombstone if there was no charge yet.
    Cancel,
    /// A write-off by an operator.
    Settle { operator: String, note: String },
}

/// One message about an order.
pub(crate) struct Told<'a> {
    pub(crate) order: OrderId,
    pub(crate) order_version: u32,
    pub(crate) command: &'a Command,
    pub(crate) event: &'a Incoming,
    /// The recipient of the answer: every service, or the command's sender.
    pub(crate) answering: Answering<'a>,
    /// The span of the message's handling; the messages published because of it continue its trace.
    pub(crate) span: &'a Span,
}

/// Applies a batch of messages: locks payments, then wallets, each in the order of their keys; folds the messages over
/// them in memory; writes each row once. Returns what to count after the commit.
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
            // The card processor's answer to this call will name this message as its cause, and reply to it.
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
    /// Returns the recipient of the answer that waits for the card processor.
    fn answering(&self) -> Answering<'_> {
        self.reply_key.as_deref().into()
    }
}

/// Returns true for an undo that has to wait for the card processor and comes from another sender (another saga) than
/// the message that waits already.
///
/// There will be one answer, and the row holds one reply key, so the answer goes to the last sender. The other one
/// resends its command, as every sender does that gets no answer, and is answered at once. A resent charge does not
/// take the answer over: once an undo waits, the charge's outcome does not matter any more.
fn asks_anew(told: &Told<'_>, payment: &Payment, answer: Option<Answer>) -> bool {
    matches!(told.command, Command::Cancel)
        && answer.is_none()
        && told.answering != payment.answering()
}

/// Adds a payment that has reached an outcome, and its amount, to the tally.
fn moved(tally: &mut Tally, payment: &Payment) {
    let (outcome, reason) = match payment.state {
        State::Captured(_) => ("captured", "none"),
        State::Declined(reason) => ("declined", store::reason_name(reason)),
        State::Refunded => ("refunded", "none"),
        State::Settled => ("settled", "none"),
        State::Charging { .. } | State::Refunding | State::Void => return,
    };
    // Only a tombstone has no terms, and it has been left out above.
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

/// Returns the attributes by which traces describe a payment.
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

/// Returns the wallet that these terms charge; `None` for a card.
fn account(terms: &Terms) -> Option<AccountKey> {
    match terms.method {
        PaymentMethod::Wallet => Some(AccountKey {
            customer: terms.customer.clone(),
            currency: terms.amount.currency,
        }),
        PaymentMethod::Card { .. } => None,
    }
}

/// Returns the means of payment of these terms; a wallet's is checked against the current balances.
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

/// Makes the payment of an order that this message is the first to name.
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

/// A definite answer of the card processor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CardAnswer {
    pub(crate) input: Input,
    pub(crate) charge_id: Option<Uuid>,
}

/// Applies an answer of the card processor. Returns what to count after the commit, and the payment's new state. The
/// row is read again under its lock, because a cancel may have come during the call.
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

/// Pays money into a wallet, once per key. Returns true if this deposit is new, and [`Error::OtherDeposit`] if the key
/// was used for another customer or amount.
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
