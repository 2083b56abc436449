//! The commands that the orchestrator sends, each to one service. Each is answered on the exchange `replies.SERVICE`,
//! under the command's idempotency key; a command that is delivered again gets the same answer again.

use serde::{Deserialize, Serialize};

use crate::{
    message::messages,
    order::{CancelReason, Customer},
    promise::{goods, positive, total},
    value::{Money, OrderId, PaymentMethod, PricedLine},
};

/// Command to payment: take the money. Answered by `payment.completed` or `payment.declined`, once the outcome is
/// known.
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

/// Command to payment: undo the charge. Answered by `payment.refunded` or `payment.nothing_to_undo`; by
/// `payment.settled`, if an operator wrote it off before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct RefundPayment {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Command to payment: write the charge off, unless it is undone already. Answered by `payment.settled`,
/// `payment.refunded` or `payment.nothing_to_undo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SettlePayment {
    pub order_id: OrderId,
    pub order_version: u32,
    /// The operator who decided it.
    pub operator: String,
    /// The reason, and what was done instead.
    pub note: String,
}

/// Command to inventory: reserve every line. Answered by `inventory.reserved` or `inventory.rejected`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReserveInventory {
    pub order_id: OrderId,
    pub order_version: u32,
    pub lines: Vec<PricedLine>,
}

/// Command to inventory: sell the reserved units. Answered by `inventory.committed`; by `inventory.released` or
/// `inventory.settled`, if they were undone before this arrived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CommitInventory {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Command to inventory: release the units that were reserved, or sold. Answered by `inventory.released` or
/// `inventory.nothing_to_undo`; by `inventory.settled`, if an operator wrote them off before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ReleaseInventory {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Command to inventory: write the units off, unless they are released already. Answered by `inventory.settled`,
/// `inventory.released` or `inventory.nothing_to_undo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SettleInventory {
    pub order_id: OrderId,
    pub order_version: u32,
    /// The operator who decided it.
    pub operator: String,
    /// The reason, and what was done instead.
    pub note: String,
}

/// Command to order: confirm the order, which is paid and reserved. Answered by `order.confirmed`; by
/// `order.confirm_rejected`, if it was cancelled first: the order's row decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfirmOrder {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Command to order: complete the order, because everything that a confirmed order leads to is done. Answered by
/// `order.completed`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CompleteOrder {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Command to order: cancel the order, because everything is undone. Answered by `order.cancelled`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CancelOrder {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
    /// The outcome of payment's part.
    pub payment: Undoing,
    /// The outcome of inventory's part.
    pub inventory: Undoing,
}

/// Command to notification: tell the customer. Answered by `notification.queued` as soon as the mail is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct SendNotification {
    pub order_id: OrderId,
    /// The version of the order that the news is about: news that is older than what the customer was told is not sent.
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

/// The outcome of a participant's part of an order that is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Undoing {
    /// The part was done, and is undone.
    Undone,
    /// Nothing was done, and nothing will be.
    NothingToUndo,
    /// An operator wrote it off.
    Settled,
}

/// The news for the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum News {
    /// The order is confirmed.
    Confirmed,
    /// The order is cancelled.
    Cancelled {
        /// The reason of the cancellation.
        reason: CancelReason,
        /// The outcome of payment's part: what happened to the money.
        payment: Undoing,
    },
}
