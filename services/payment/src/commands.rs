//! The use cases, each on the caller's transaction.

mod answer;
mod batch;

use chassis::{
    events::{self, Answering, Publishing},
    tally::Tally,
    trace::OrderFacts,
};
use contracts::value::{CustomerId, Money, OrderId};
use holdfast::outbox;
use metrics::counter;
use sqlx::PgConnection;
use uuid::Uuid;

use self::answer::message;
pub(crate) use self::batch::apply;
use crate::{
    domain::{Decision, Input, State, decide},
    error::Error,
    store::{self, Payment, Terms},
};

const PUBLISHING: Publishing<'static> = Publishing {
    service: "payment",
    cause: None,
};

/// A message about an order.
pub(crate) type Command = events::Command<Request>;

/// The request that a message makes of a payment.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// A charge by these terms.
    Charge(Terms),
    /// An undo: a refund, or a tombstone if there was no charge yet.
    Cancel,
    /// A write-off by an operator.
    Settle { operator: String, note: String },
}

impl Payment {
    /// Returns the recipient of the answer that waits for the card processor.
    fn answering(&self) -> Answering<'_> {
        self.reply_key.as_deref().into()
    }
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
    let method = store::method_name(&terms.method);
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
