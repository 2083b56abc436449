//! An order as it is stored, and as a row of the table: flat, with names for its states.

use contracts::{
    order::{CancelReason, Customer},
    value::{Money, OrderId, PaymentMethod, PricedLine},
};
use sqlx::types::Json;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::{Coordination, Order, State, Undo, Undoing};

/// An order as its customer placed it.
#[derive(Clone, Debug)]
pub(crate) struct NewOrder {
    pub(crate) id: OrderId,
    pub(crate) customer: Customer,
    pub(crate) lines: Vec<PricedLine>,
    pub(crate) amount: Money,
    /// The time of the prices, if inventory was unavailable.
    pub(crate) prices_as_of: Option<OffsetDateTime>,
    pub(crate) payment: PaymentMethod,
}

/// An order as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct StoredOrder {
    pub(crate) new: NewOrder,
    pub(crate) coordination: Coordination,
    /// The state, and its version.
    pub(crate) order: Order,
    /// Set if an orchestrated order is, or was, confirmed. False for a choreographed order.
    pub(crate) was_confirmed: bool,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
    pub(crate) deadline_at: Option<OffsetDateTime>,
    pub(crate) stuck_since: Option<OffsetDateTime>,
    /// The number of sweeps that have resent messages since the last change.
    pub(crate) sweeps: i32,
}

/// The columns of `orders`.
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) customer_id: String,
    pub(super) email: Option<String>,
    pub(super) coordination: String,
    pub(super) lines: Json<Vec<PricedLine>>,
    pub(super) payment: Json<PaymentMethod>,
    pub(super) amount_minor: i64,
    pub(super) currency: String,
    pub(super) prices_as_of: Option<OffsetDateTime>,
    pub(super) state: String,
    pub(super) version: i32,
    pub(super) committed: bool,
    pub(super) was_confirmed: bool,
    pub(super) reason: Option<String>,
    pub(super) payment_answer: Option<String>,
    pub(super) inventory_answer: Option<String>,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
    pub(super) deadline_at: Option<OffsetDateTime>,
    pub(super) stuck_since: Option<OffsetDateTime>,
    pub(super) sweeps: i32,
}

/// A state as columns of the table.
pub(super) struct Flat {
    pub(super) state: &'static str,
    pub(super) version: i32,
    pub(super) committed: bool,
    pub(super) reason: Option<&'static str>,
    pub(super) payment_answer: Option<&'static str>,
    pub(super) inventory_answer: Option<&'static str>,
}

impl From<Order> for Flat {
    fn from(Order { state, version }: Order) -> Self {
        let version = i32::try_from(version).unwrap_or(i32::MAX);
        let flat = Self {
            state: "pending",
            version,
            committed: false,
            reason: None,
            payment_answer: None,
            inventory_answer: None,
        };
        let undoing = |state,
                       Undoing {
                           reason,
                           payment,
                           inventory,
                       }: Undoing| Self {
            state,
            version,
            committed: false,
            reason: Some(reason_name(reason)),
            payment_answer: payment.map(undo_name),
            inventory_answer: inventory.map(undo_name),
        };
        match state {
            State::Pending => flat,
            State::Confirmed { committed } => Self {
                state: "confirmed",
                committed,
                ..flat
            },
            State::Cancelling(doing) => undoing("cancelling", doing),
            State::Cancelled(done) => undoing("cancelled", done),
        }
    }
}

impl TryFrom<Row> for StoredOrder {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> Result<Self, sqlx::Error> {
        let undoing = || -> Result<Undoing, sqlx::Error> {
            Ok(Undoing {
                reason: row
                    .reason
                    .as_deref()
                    .and_then(reason_named)
                    .ok_or_else(|| damaged("reason"))?,
                payment: row.payment_answer.as_deref().map(undo_named).transpose()?,
                inventory: row
                    .inventory_answer
                    .as_deref()
                    .map(undo_named)
                    .transpose()?,
            })
        };
        let state = match row.state.as_str() {
            "pending" => State::Pending,
            "confirmed" => State::Confirmed {
                committed: row.committed,
            },
            "cancelling" => State::Cancelling(undoing()?),
            "cancelled" => State::Cancelled(undoing()?),
            _ => return Err(damaged("state")),
        };
        let coordination =
            coordination_named(&row.coordination).ok_or_else(|| damaged("coordination"))?;
        let currency = row.currency.parse().map_err(|_| damaged("currency"))?;
        Ok(Self {
            new: NewOrder {
                id: OrderId(row.id),
                customer: Customer {
                    id: row
                        .customer_id
                        .parse()
                        .map_err(|_| damaged("customer_id"))?,
                    email: row.email.and_then(|email| email.parse().ok()),
                },
                lines: row.lines.0,
                amount: Money::new(row.amount_minor, currency),
                prices_as_of: row.prices_as_of,
                payment: row.payment.0,
            },
            coordination,
            was_confirmed: row.was_confirmed,
            order: Order {
                state,
                version: row.version.try_into().map_err(|_| damaged("version"))?,
            },
            created_at: row.created_at,
            updated_at: row.updated_at,
            deadline_at: row.deadline_at,
            stuck_since: row.stuck_since,
            sweeps: row.sweeps,
        })
    }
}

/// Returns the error for a value that the table's checks should have kept out.
fn damaged(column: &'static str) -> sqlx::Error {
    sqlx::Error::Decode(
        format!("orders.{column} holds a value that this version does not know").into(),
    )
}

pub(super) fn coordination_name(coordination: Coordination) -> &'static str {
    match coordination {
        Coordination::Choreography => "choreography",
        Coordination::Orchestration => "orchestration",
    }
}

fn coordination_named(name: &str) -> Option<Coordination> {
    [Coordination::Choreography, Coordination::Orchestration]
        .into_iter()
        .find(|coordination| coordination_name(*coordination) == name)
}

pub(crate) fn reason_name(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::PaymentDeclined => "payment_declined",
        CancelReason::OutOfStock => "out_of_stock",
        CancelReason::Customer => "customer",
        CancelReason::Operator => "operator",
        CancelReason::Deadline => "deadline",
    }
}

fn reason_named(name: &str) -> Option<CancelReason> {
    [
        CancelReason::PaymentDeclined,
        CancelReason::OutOfStock,
        CancelReason::Customer,
        CancelReason::Operator,
        CancelReason::Deadline,
    ]
    .into_iter()
    .find(|reason| reason_name(*reason) == name)
}

pub(crate) fn undo_name(undo: Undo) -> &'static str {
    match undo {
        Undo::Undone => "undone",
        Undo::NothingToUndo => "nothing_to_undo",
        Undo::Settled => "settled",
    }
}

fn undo_named(name: &str) -> Result<Undo, sqlx::Error> {
    [Undo::Undone, Undo::NothingToUndo, Undo::Settled]
        .into_iter()
        .find(|undo| undo_name(*undo) == name)
        .ok_or_else(|| damaged("payment_answer or inventory_answer"))
}
