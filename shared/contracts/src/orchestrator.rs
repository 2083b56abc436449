//! What the orchestrator sends: commands, each to one service. Every one of them is answered to the exchange `replies.SERVICE`,
//! under the command's idempotency key, and answered again, alike, when it comes again.

use serde::{Deserialize, Serialize};

use crate::{
    message::messages,
    order::{CancelReason, Customer},
    promise::{goods, positive, total},
    value::{Money, OrderId, PaymentMethod, PricedLine},
};

/// To payment: take the money. Answered by `payment.completed` or `payment.declined`, when it is known which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ChargePayment {
    pub order_id: OrderId,
    pub order_version: u32,
    pub customer: Customer,
    pub lines: Vec<PricedLine>,
    pub amount: Money,
    pub payment: PaymentMethod,
}

/// To payment: undo the charge. Answered by `payment.refunded` or `payment.nothing_to_undo`; by `payment.settled`, if an
/// operator wrote it off before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RefundPayment {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// To payment: write the charge off, unless it is undone already. Answered by `payment.settled`, `payment.refunded` or
/// `payment.nothing_to_undo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SettlePayment {
    pub order_id: OrderId,
    pub order_version: u32,
    /// Who decided it.
    pub operator: String,
    /// Why, and what was done instead.
    pub note: String,
}

/// To inventory: set every line aside. Answered by `inventory.reserved` or `inventory.rejected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReserveInventory {
    pub order_id: OrderId,
    pub order_version: u32,
    pub lines: Vec<PricedLine>,
}

/// To inventory: the reserved units are sold. Answered by `inventory.committed`; by `inventory.released` or
/// `inventory.settled`, if they were undone before this came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CommitInventory {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// To inventory: give back what was set aside, or sold. Answered by `inventory.released` or `inventory.nothing_to_undo`; by
/// `inventory.settled`, if an operator wrote it off before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReleaseInventory {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// To inventory: write the units off, unless they are released already. Answered by `inventory.settled`,
/// `inventory.released` or `inventory.nothing_to_undo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SettleInventory {
    pub order_id: OrderId,
    pub order_version: u32,
    /// Who decided it.
    pub operator: String,
    /// Why, and what was done instead.
    pub note: String,
}

/// To order: paid and reserved, so confirm it. Answered by `order.confirmed`; by `order.confirm_rejected`, if somebody
/// cancelled it first: the order's row arbitrates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfirmOrder {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// To order: everything that a confirmed order leads to is done. Answered by `order.completed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CompleteOrder {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// To order: everything is undone, so it is cancelled. Answered by `order.cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CancelOrder {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
    /// What became of payment's part.
    pub payment: Undoing,
    /// What became of inventory's part.
    pub inventory: Undoing,
}

/// To notification: tell the customer. Answered by `notification.queued` as soon as it cannot be lost any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SendNotification {
    pub order_id: OrderId,
    /// How old the news is: what is older than what the customer was told is not sent.
    pub order_version: u32,
    pub customer: Customer,
    pub amount: Money,
    pub news: News,
}

messages! {
    ChargePayment = "orchestrator.charge_payment.v1" => |m| total(&m.lines, m.amount),
    RefundPayment = "orchestrator.refund_payment.v1",
    SettlePayment = "orchestrator.settle_payment.v1",
    ReserveInventory = "orchestrator.reserve_inventory.v1" => |m| goods(&m.lines),
    CommitInventory = "orchestrator.commit_inventory.v1",
    ReleaseInventory = "orchestrator.release_inventory.v1",
    SettleInventory = "orchestrator.settle_inventory.v1",
    ConfirmOrder = "orchestrator.confirm_order.v1",
    CompleteOrder = "orchestrator.complete_order.v1",
    CancelOrder = "orchestrator.cancel_order.v1",
    SendNotification = "orchestrator.send_notification.v1" => |m| positive(m.amount),
}

/// What became of a participant's part of an order that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Undoing {
    /// It was done, and is undone.
    Undone,
    /// Nothing was done, and nothing will be.
    NothingToUndo,
    /// An operator wrote it off.
    Settled,
}

/// What the customer is to hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// The order is confirmed.
    Confirmed,
    /// The order is cancelled.
    Cancelled {
        /// Why.
        reason: CancelReason,
        /// What became of the money.
        payment: Undoing,
    },
}
