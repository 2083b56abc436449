//! Many payments changed at once: locked in one order, changed in memory, each written once.

use std::collections::{BTreeMap, HashSet};

use chassis::{events::requests, tally::Tally};
use contracts::{
    payment::DeclineReason,
    value::{OrderId, PaymentMethod},
};
use holdfast::{failpoint, messaging::Received, outbox, telemetry};
use sqlx::PgConnection;

use super::{Command, PUBLISHING, Request, answer, facts, moved};
use crate::{
    domain::{Answer, Booking, Decision, Input, Means, State, decide},
    error::Error,
    store::{self, AccountKey, Payment, Settlement, Terms},
};

/// Applies a batch of messages in its order. Returns what to count after the commit.
pub(crate) async fn apply(
    conn: &mut PgConnection,
    messages: &[&Received<Command>],
) -> Result<Tally, Error> {
    let requests = requests(messages);
    let mut batch = Batch::lock(conn, &requests).await?;
    for (message, request) in requests {
        batch.apply(message, request)?;
    }
    batch.write(conn).await
}

/// The locked payments and wallets of a batch, with what is to be written at its end.
struct Batch<'a> {
    payments: BTreeMap<OrderId, Payment>,
    /// The payments that have a row.
    known: HashSet<OrderId>,
    /// The payments that a message was about.
    touched: HashSet<OrderId>,
    balances: BTreeMap<AccountKey, i64>,
    /// The balances when they were locked.
    before: BTreeMap<AccountKey, i64>,
    settlements: Vec<Settling<'a>>,
    messages: Vec<outbox::Message>,
    tally: Tally,
}

/// A payment that an operator writes off in this batch.
struct Settling<'a> {
    order: OrderId,
    was_captured: bool,
    operator: &'a str,
    note: &'a str,
}

impl<'a> Batch<'a> {
    /// Locks payments, then wallets, each in the order of their keys.
    async fn lock(
        conn: &mut PgConnection,
        messages: &[(&Received<Command>, &Request)],
    ) -> Result<Self, Error> {
        let mut ids: Vec<OrderId> = messages
            .iter()
            .map(|(message, _)| message.command.order)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        let payments = store::lock(conn, &ids).await?;

        let asked = messages.iter().filter_map(|(_, request)| match request {
            Request::Charge(terms) => Some(terms),
            Request::Cancel | Request::Settle { .. } => None,
        });
        let held = payments
            .values()
            .filter_map(|payment| payment.terms.as_ref());
        let mut keys: Vec<AccountKey> = asked.chain(held).filter_map(account).collect();
        keys.sort_unstable();
        keys.dedup();
        let balances = store::lock_accounts(conn, &keys).await?;
        Ok(Self {
            known: payments.keys().copied().collect(),
            touched: HashSet::new(),
            payments,
            before: balances.clone(),
            balances,
            settlements: Vec::new(),
            messages: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Applies one message, in memory.
    fn apply(&mut self, message: &Received<Command>, request: &'a Request) -> Result<(), Error> {
        let Received {
            event,
            command,
            span,
        } = message;
        let current = self.payments.remove(&command.order);
        let input = match request {
            Request::Charge(terms) => Input::Charge(means(terms, &self.balances)),
            Request::Cancel => Input::Cancel,
            Request::Settle { .. } => Input::Settle,
        };
        let was = current.as_ref().map(|current| current.state);
        let Decision {
            state,
            booking,
            answer,
        } = decide(was, input)?;
        let mut payment = current.unwrap_or_else(|| new(command));
        facts(&payment).describe(span);
        payment.order_version = payment.order_version.max(command.order_version);
        if was != Some(state) || asks_anew(command, &payment, answer) {
            // The card processor's answer to this call will name this message as its cause, and reply to it.
            payment.causation_id = Some(event.id);
            payment.trace = telemetry::trace_context_of(span);
            payment.reply_key.clone_from(&command.reply_key);
        }
        if let (
            Some(State::Charging { .. } | State::Captured(_) | State::Refunding),
            State::Settled,
        ) = (was, state)
            && let Request::Settle { operator, note } = request
        {
            self.settlements.push(Settling {
                order: command.order,
                was_captured: !matches!(was, Some(State::Charging { .. })),
                operator,
                note,
            });
        }
        payment.state = state;
        if was != Some(state) {
            moved(&mut self.tally, &payment);
        }
        if let Some(booking) = booking {
            book(&mut self.balances, &payment, booking)?;
        }
        if let Some(answer) = answer {
            let publishing = PUBLISHING.because_of(event);
            let row = || answer::message(&publishing, command.answering(), &payment, answer);
            self.messages.push(span.in_scope(row)?);
        }
        self.payments.insert(command.order, payment);
        self.touched.insert(command.order);
        Ok(())
    }

    /// Writes each changed row once, and the messages. Returns what to count after the commit.
    async fn write(mut self, conn: &mut PgConnection) -> Result<Tally, Error> {
        let changed = self
            .payments
            .values()
            .filter(|payment| self.touched.contains(&payment.order_id))
            .cloned();
        let (old, new): (Vec<_>, Vec<_>) =
            changed.partition(|payment| self.known.contains(&payment.order_id));
        if store::insert(conn, &new).await? < new.len() {
            return Err(Error::Raced);
        }
        store::update(conn, &old).await?;
        self.balances
            .retain(|key, balance| self.before.get(key) != Some(balance));
        store::save_accounts(conn, &self.balances).await?;
        failpoint!("payment.mid_batch");
        for settling in self.settlements {
            let payment = self.payments.get(&settling.order);
            if let Some(terms) = payment.and_then(|payment| payment.terms.as_ref()) {
                let settlement = Settlement {
                    order_id: settling.order,
                    terms,
                    was_captured: settling.was_captured,
                    operator: settling.operator,
                    note: settling.note,
                };
                store::settle(conn, &settlement).await?;
            }
        }
        outbox::enqueue(conn, &self.messages).await?;
        Ok(self.tally)
    }
}

/// Returns true for an undo that has to wait for the card processor and comes from another sender (another saga) than
/// the message that waits already.
///
/// There will be one answer, and the row holds one reply key, so the answer goes to the last sender. The other one
/// resends its command, as every sender does that gets no answer, and is answered at once. A resent charge does not
/// take the answer over: once an undo waits, the charge's outcome does not matter any more.
fn asks_anew(command: &Command, payment: &Payment, answer: Option<Answer>) -> bool {
    matches!(command.request, Some(Request::Cancel))
        && answer.is_none()
        && command.answering() != payment.answering()
}

/// Makes the payment of an order that this message is the first to name.
fn new(command: &Command) -> Payment {
    let terms = match &command.request {
        Some(Request::Charge(terms)) => Some(terms.clone()),
        _ => None,
    };
    Payment {
        order_id: command.order,
        state: State::Void,
        terms,
        charge_id: None,
        order_version: command.order_version,
        causation_id: None,
        trace: None,
        reply_key: None,
        attempts: 0,
        last_error: None,
        updated_at: time::OffsetDateTime::UNIX_EPOCH, // set by the database
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
