//! The messages that the payment service publishes.

use serde::{Deserialize, Serialize};

use crate::{
    message::messages,
    promise::{positive, total},
    value::{Money, OrderId, PricedLine},
};

/// The money was taken. Inventory reserves the lines, which are sent along so that it needs no other service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PaymentCompleted {
    pub order_id: OrderId,
    pub order_version: u32,
    pub amount: Money,
    pub lines: Vec<PricedLine>,
}

/// The money was not taken, and will not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PaymentDeclined {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: DeclineReason,
}

/// Answer to `order.cancelling`: the money that was taken is back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PaymentRefunded {
    pub order_id: OrderId,
    pub order_version: u32,
    pub amount: Money,
}

/// Answer to `order.cancelling`: nothing was taken, and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PaymentNothingToUndo {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Answer to `order.settling`: an operator wrote off the money that was taken; no message will refund it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PaymentSettled {
    pub order_id: OrderId,
    pub order_version: u32,
}

messages! {
    PaymentCompleted = "payment.completed.v1" => |m| total(&m.lines, m.amount),
    PaymentDeclined = "payment.declined.v1",
    PaymentRefunded = "payment.refunded.v1" => |m| positive(m.amount),
    PaymentNothingToUndo = "payment.nothing_to_undo.v1",
    PaymentSettled = "payment.settled.v1",
}

/// The reason for which the money was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DeclineReason {
    /// The wallet or the card does not hold that much.
    InsufficientFunds,
    /// The card processor declined the card.
    CardDeclined,
    /// The card is past its date.
    CardExpired,
    /// The card processor does not know the card.
    InvalidCard,
    /// The customer has no wallet in the currency of the order.
    NoAccount,
    /// The order was cancelled before the money was taken.
    OrderCancelled,
}
