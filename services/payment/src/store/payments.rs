//! Payments: one permanent row per order.

use std::collections::BTreeMap;

use contracts::{
    payment::DeclineReason,
    value::{CustomerId, Money, OrderId, PaymentMethod, PricedLine},
};
use holdfast::telemetry::TraceContext;
use sqlx::{PgConnection, PgExecutor, types::Json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Method, State};

/// The payment of an order.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) order_id: OrderId,
    pub(crate) state: State,
    /// The terms of the charge; `None` on a tombstone.
    pub(crate) terms: Option<Terms>,
    /// The card processor's id of the charge.
    pub(crate) charge_id: Option<Uuid>,
    /// The highest version of the order that a message has named.
    pub(crate) order_version: u32,
    /// The message that the answer, once the card processor has answered, will name as its cause.
    pub(crate) causation_id: Option<Uuid>,
    /// The trace of that message, which the call and the answer continue.
    pub(crate) trace: Option<TraceContext>,
    /// The idempotency key of the command that the answer will reply to; `None` in choreography.
    pub(crate) reply_key: Option<String>,
    pub(crate) attempts: i32,
    pub(crate) last_error: Option<String>,
    pub(crate) updated_at: OffsetDateTime,
}

/// The terms of a charge: who pays how much, for what, and by which method.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) customer: CustomerId,
    pub(crate) amount: Money,
    pub(crate) method: PaymentMethod,
    pub(crate) lines: Vec<PricedLine>,
}

struct Row {
    order_id: Uuid,
    state: String,
    cancel_requested: bool,
    customer_id: Option<String>,
    amount_minor: Option<i64>,
    currency: Option<String>,
    method: Option<String>,
    card_token: Option<String>,
    lines: Option<Json<Vec<PricedLine>>>,
    decline_reason: Option<String>,
    charge_id: Option<Uuid>,
    order_version: i32,
    causation_id: Option<Uuid>,
    traceparent: Option<String>,
    tracestate: Option<String>,
    reply_key: Option<String>,
    attempts: i32,
    last_error: Option<String>,
    updated_at: OffsetDateTime,
}

/// Runs a query that selects whole payments; `$rest` follows `from payment`.
macro_rules! select_payments {
    ($rest:literal $(, $argument:expr)* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"select order_id, state, cancel_requested, customer_id, amount_minor, currency, method, card_token,
                      lines as "lines: Json<Vec<PricedLine>>", decline_reason, charge_id, order_version, causation_id,
                      traceparent, tracestate, reply_key, attempts, last_error, updated_at
               from payment "# + $rest
            $(, $argument)*
        )
    };
}

/// Locks these orders' payments, in the order of their ids. A row that does not exist yet cannot be locked: see
/// [`insert`].
pub(crate) async fn lock(
    conn: &mut PgConnection,
    ids: &[OrderId],
) -> sqlx::Result<BTreeMap<OrderId, Payment>> {
    let ids: Vec<Uuid> = ids.iter().map(|id| id.0).collect();
    let rows = select_payments!(
        "where order_id = any($1) order by order_id for update",
        &ids
    )
    .fetch_all(conn)
    .await?;
    rows.into_iter()
        .map(|row| Ok((OrderId(row.order_id), row.try_into()?)))
        .collect()
}

/// Locks the payment of one order.
pub(crate) async fn lock_one(
    conn: &mut PgConnection,
    id: OrderId,
) -> sqlx::Result<Option<Payment>> {
    Ok(lock(conn, &[id]).await?.remove(&id))
}

/// Reads the payment of one order, without a lock.
pub(crate) async fn find(db: impl PgExecutor<'_>, id: OrderId) -> sqlx::Result<Option<Payment>> {
    select_payments!("where order_id = $1", id.0)
        .fetch_optional(db)
        .await?
        .map(TryInto::try_into)
        .transpose()
}

/// Inserts new payments, and returns how many. If they are fewer than were given, another transaction has inserted one
/// of them meanwhile, and the caller must roll back: it decided without knowing that row.
pub(crate) async fn insert(conn: &mut PgConnection, payments: &[Payment]) -> sqlx::Result<usize> {
    let terms = || payments.iter().map(|payment| payment.terms.as_ref());
    let columns = Columns::from(payments);
    let customers: Vec<Option<String>> = terms()
        .map(|terms| Some(terms?.customer.to_string()))
        .collect();
    let amounts: Vec<Option<i64>> = terms()
        .map(|terms| Some(terms?.amount.amount_minor))
        .collect();
    let currencies: Vec<Option<String>> = terms()
        .map(|terms| Some(terms?.amount.currency.to_string()))
        .collect();
    let methods: Vec<Option<String>> = terms()
        .map(|terms| Some(method_name(&terms?.method).to_owned()))
        .collect();
    let tokens: Vec<Option<String>> = terms()
        .map(|terms| match &terms?.method {
            PaymentMethod::Wallet => None,
            PaymentMethod::Card { token } => Some(token.to_string()),
        })
        .collect();
    let lines: Vec<Option<serde_json::Value>> = terms()
        .map(|terms| serde_json::to_value(&terms?.lines).ok())
        .collect();
    let inserted = sqlx::query!(
        "insert into payment (order_id, state, cancel_requested, decline_reason, charge_id, order_version, causation_id,
                              traceparent, tracestate, reply_key, customer_id, amount_minor, currency, method, card_token, lines,
                              due_at)
         select *, case when state in ('charging', 'refunding') then now() end
         from unnest($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::uuid[], $6::int4[], $7::uuid[], $8::text[],
                     $9::text[], $10::text[], $11::text[], $12::int8[], $13::text[], $14::text[], $15::text[],
                     $16::jsonb[])
              as new (order_id, state, cancel_requested, decline_reason, charge_id, order_version, causation_id,
                      traceparent, tracestate, reply_key, customer_id, amount_minor, currency, method, card_token, lines)
         on conflict do nothing",
        &columns.order_ids,
        &columns.states,
        &columns.cancel_requested,
        &columns.decline_reasons as &[Option<String>],
        &columns.charge_ids as &[Option<Uuid>],
        &columns.order_versions,
        &columns.causation_ids as &[Option<Uuid>],
        &columns.traceparents as &[Option<String>],
        &columns.tracestates as &[Option<String>],
        &columns.reply_keys as &[Option<String>],
        &customers as &[Option<String>],
        &amounts as &[Option<i64>],
        &currencies as &[Option<String>],
        &methods as &[Option<String>],
        &tokens as &[Option<String>],
        &lines as &[Option<serde_json::Value>],
    )
    .execute(conn)
    .await?;
    Ok(usize::try_from(inserted.rows_affected()).unwrap_or(usize::MAX))
}

/// Writes locked payments back: one final row per order. A payment that enters a state that waits for the card
/// processor is due at once.
pub(crate) async fn update(conn: &mut PgConnection, payments: &[Payment]) -> sqlx::Result<()> {
    let columns = Columns::from(payments);
    sqlx::query!(
        "update payment
         set state = new.state,
             cancel_requested = new.cancel_requested,
             decline_reason = new.decline_reason,
             charge_id = new.charge_id,
             order_version = new.order_version,
             causation_id = new.causation_id,
             traceparent = new.traceparent,
             tracestate = new.tracestate,
             reply_key = new.reply_key,
             due_at = case when new.state not in ('charging', 'refunding') then null
                           when new.state = payment.state then payment.due_at
                           else now() end,
             attempts = case when new.state = payment.state then payment.attempts else 0 end,
             last_error = case when new.state = payment.state then payment.last_error end,
             updated_at = now()
         from unnest($1::uuid[], $2::text[], $3::bool[], $4::text[], $5::uuid[], $6::int4[], $7::uuid[], $8::text[],
                     $9::text[], $10::text[])
              as new (order_id, state, cancel_requested, decline_reason, charge_id, order_version, causation_id,
                      traceparent, tracestate, reply_key)
         where payment.order_id = new.order_id",
        &columns.order_ids,
        &columns.states,
        &columns.cancel_requested,
        &columns.decline_reasons as &[Option<String>],
        &columns.charge_ids as &[Option<Uuid>],
        &columns.order_versions,
        &columns.causation_ids as &[Option<Uuid>],
        &columns.traceparents as &[Option<String>],
        &columns.tracestates as &[Option<String>],
        &columns.reply_keys as &[Option<String>],
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// A payment that an operator wrote off.
pub(crate) struct Settlement<'a> {
    pub(crate) order_id: OrderId,
    pub(crate) terms: &'a Terms,
    /// True if the money was taken, by this service's books.
    pub(crate) was_captured: bool,
    pub(crate) operator: &'a str,
    pub(crate) note: &'a str,
}

/// Records a payment that an operator wrote off.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    settlement: &Settlement<'_>,
) -> sqlx::Result<()> {
    let terms = settlement.terms;
    sqlx::query!(
        "insert into settlement (order_id, amount_minor, currency, method, operator, note)
         values ($1, $2, $3, $4, $5, $6)",
        settlement.order_id.0,
        if settlement.was_captured {
            terms.amount.amount_minor
        } else {
            0
        },
        terms.amount.currency.as_str(),
        method_name(&terms.method),
        settlement.operator,
        settlement.note,
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// The columns that change, each as a vector with one value per payment.
struct Columns {
    order_ids: Vec<Uuid>,
    states: Vec<String>,
    cancel_requested: Vec<bool>,
    decline_reasons: Vec<Option<String>>,
    charge_ids: Vec<Option<Uuid>>,
    order_versions: Vec<i32>,
    causation_ids: Vec<Option<Uuid>>,
    traceparents: Vec<Option<String>>,
    tracestates: Vec<Option<String>>,
    reply_keys: Vec<Option<String>>,
}

impl From<&[Payment]> for Columns {
    fn from(payments: &[Payment]) -> Self {
        Self {
            order_ids: payments.iter().map(|payment| payment.order_id.0).collect(),
            states: payments
                .iter()
                .map(|payment| state_name(payment.state).to_owned())
                .collect(),
            cancel_requested: payments
                .iter()
                .map(|payment| {
                    payment.state
                        == State::Charging {
                            cancel_requested: true,
                        }
                })
                .collect(),
            decline_reasons: payments
                .iter()
                .map(|payment| match payment.state {
                    State::Declined(reason) => Some(reason_name(reason).to_owned()),
                    _ => None,
                })
                .collect(),
            charge_ids: payments.iter().map(|payment| payment.charge_id).collect(),
            order_versions: payments
                .iter()
                .map(|payment| i32::try_from(payment.order_version).unwrap_or(i32::MAX))
                .collect(),
            causation_ids: payments
                .iter()
                .map(|payment| payment.causation_id)
                .collect(),
            traceparents: payments
                .iter()
                .map(|payment| payment.trace.as_ref().map(TraceContext::traceparent))
                .collect(),
            tracestates: payments
                .iter()
                .map(|payment| payment.trace.as_ref()?.tracestate().map(str::to_owned))
                .collect(),
            reply_keys: payments
                .iter()
                .map(|payment| payment.reply_key.clone())
                .collect(),
        }
    }
}

impl Row {
    /// Returns the method of the charge; `None` on a tombstone.
    fn method(&self) -> sqlx::Result<Option<PaymentMethod>> {
        Ok(match (self.method.as_deref(), self.card_token.as_deref()) {
            (None, _) => None,
            (Some("wallet"), _) => Some(PaymentMethod::Wallet),
            (Some("card"), Some(token)) => Some(PaymentMethod::Card {
                token: token.parse().map_err(|_| damaged("card_token"))?,
            }),
            _ => return Err(damaged("method")),
        })
    }

    /// Takes the terms of the charge; `None` on a tombstone.
    fn take_terms(&mut self) -> sqlx::Result<Option<Terms>> {
        let method = self.method()?;
        let (Some(customer), Some(amount), Some(currency), Some(method), Some(lines)) = (
            self.customer_id.as_deref(),
            self.amount_minor,
            self.currency.as_deref(),
            method,
            self.lines.take(),
        ) else {
            return Ok(None);
        };
        Ok(Some(Terms {
            customer: customer.parse().map_err(|_| damaged("customer_id"))?,
            amount: Money::new(amount, currency.parse().map_err(|_| damaged("currency"))?),
            method,
            lines: lines.0,
        }))
    }

    /// Returns the state of a payment on these terms.
    fn state(&self, terms: Option<&Terms>) -> sqlx::Result<State> {
        Ok(match self.state.as_str() {
            "charging" => State::Charging {
                cancel_requested: self.cancel_requested,
            },
            "captured" => State::Captured(match terms.map(|terms| &terms.method) {
                Some(PaymentMethod::Wallet) => Method::Wallet,
                Some(PaymentMethod::Card { .. }) => Method::Card,
                None => return Err(damaged("method")),
            }),
            "declined" => State::Declined(
                self.decline_reason
                    .as_deref()
                    .and_then(reason_named)
                    .ok_or_else(|| damaged("decline_reason"))?,
            ),
            "refunding" => State::Refunding,
            "refunded" => State::Refunded,
            "void" => State::Void,
            "settled" => State::Settled,
            _ => return Err(damaged("state")),
        })
    }
}

impl TryFrom<Row> for Payment {
    type Error = sqlx::Error;

    fn try_from(mut row: Row) -> sqlx::Result<Self> {
        let terms = row.take_terms()?;
        let state = row.state(terms.as_ref())?;
        Ok(Self {
            order_id: OrderId(row.order_id),
            state,
            terms,
            charge_id: row.charge_id,
            order_version: row
                .order_version
                .try_into()
                .map_err(|_| damaged("order_version"))?,
            causation_id: row.causation_id,
            trace: trace_of(row.traceparent.as_deref(), row.tracestate.as_deref()),
            reply_key: row.reply_key,
            attempts: row.attempts,
            last_error: row.last_error,
            updated_at: row.updated_at,
        })
    }
}

/// Reads the trace of a row. Returns `None` for one that cannot be read: a payment must not fail for its trace.
pub(super) fn trace_of(
    traceparent: Option<&str>,
    tracestate: Option<&str>,
) -> Option<TraceContext> {
    TraceContext::parse(traceparent?, tracestate)
}

/// Makes the error for a value that the table's checks should have kept out.
fn damaged(column: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(
        format!("payment.{column} holds a value that this version does not know").into(),
    )
}

pub(crate) fn state_name(state: State) -> &'static str {
    match state {
        State::Charging { .. } => "charging",
        State::Captured(_) => "captured",
        State::Declined(_) => "declined",
        State::Refunding => "refunding",
        State::Refunded => "refunded",
        State::Void => "void",
        State::Settled => "settled",
    }
}

pub(crate) fn method_name(method: &PaymentMethod) -> &'static str {
    match method {
        PaymentMethod::Wallet => "wallet",
        PaymentMethod::Card { .. } => "card",
    }
}

const REASONS: [(DeclineReason, &str); 6] = [
    (DeclineReason::InsufficientFunds, "insufficient_funds"),
    (DeclineReason::CardDeclined, "card_declined"),
    (DeclineReason::CardExpired, "card_expired"),
    (DeclineReason::InvalidCard, "invalid_card"),
    (DeclineReason::NoAccount, "no_account"),
    (DeclineReason::OrderCancelled, "order_cancelled"),
];

pub(crate) fn reason_name(reason: DeclineReason) -> &'static str {
    REASONS
        .iter()
        .find(|(known, _)| *known == reason)
        .map_or("card_declined", |(_, name)| name)
}

fn reason_named(name: &str) -> Option<DeclineReason> {
    REASONS
        .iter()
        .find(|(_, known)| *known == name)
        .map(|(reason, _)| *reason)
}
