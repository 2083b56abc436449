//! The messages that the order service publishes.

use serde::{Deserialize, Serialize};

use crate::{
    message::messages,
    promise::{positive, total},
    value::{CustomerId, Email, Money, OrderId, PaymentMethod, PricedLine},
};

/// An order was accepted. Payment charges it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderCreated {
    pub order_id: OrderId,
    pub order_version: u32,
    pub customer: Customer,
    /// The lines of the order, at the prices that inventory gave when the order was accepted: 1 to 100 lines, each of
    /// another product, all in one currency.
    pub lines: Vec<PricedLine>,
    /// The sum of the lines, in their currency.
    pub amount: Money,
    pub payment: PaymentMethod,
}

/// The order is paid and reserved. Inventory commits the reservation, notification tells the customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderConfirmed {
    pub order_id: OrderId,
    pub order_version: u32,
    pub customer: Customer,
    pub amount: Money,
}

/// The order is being undone. Payment refunds, inventory releases; both answer, even if they have nothing to undo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderCancelling {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
}

/// An operator ends an order that could not be undone by message: the named participants write their parts off, unless
/// they have undone them meanwhile, and never act on this order again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderSettling {
    pub order_id: OrderId,
    pub order_version: u32,
    /// The participants that write their parts off.
    pub participants: Vec<Participant>,
    /// The operator who decided it.
    pub operator: String,
    /// The reason, and what was done instead.
    pub note: String,
}

/// The order is undone: the money is back and the stock is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderCancelled {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
    pub customer: Customer,
    pub amount: Money,
    /// True if money had been taken and was given back.
    pub refunded: bool,
    /// True if an operator wrote payment's part off: any money that had been taken is put right outside of this system.
    #[serde(default)]
    pub settled: bool,
}

/// Command to the orchestrator: carry out a new orchestrated order, or cancel one after it was confirmed. There is one
/// saga for each, however often this is delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StartSaga {
    pub order_id: OrderId,
    pub order_version: u32,
    pub saga: Saga,
    pub customer: Customer,
    pub lines: Vec<PricedLine>,
    pub amount: Money,
    pub payment: PaymentMethod,
}

/// Command to the orchestrator: stop trying, because the order was cancelled before it was confirmed. Only a hint: the
/// order will not be confirmed, whether or not this arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CancelRequested {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
}

/// Answer to `orchestrator.confirm_order`: the order was cancelled before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfirmRejected {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
}

/// Answer to `orchestrator.complete_order`: the order is completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderCompleted {
    pub order_id: OrderId,
    pub order_version: u32,
}

messages! {
    OrderCreated = "order.created.v1" => |m| total(&m.lines, m.amount),
    OrderConfirmed = "order.confirmed.v1" => |m| positive(m.amount),
    OrderCancelling = "order.cancelling.v1",
    OrderSettling = "order.settling.v1",
    OrderCancelled = "order.cancelled.v1" => |m| positive(m.amount),
    StartSaga = "order.start_saga.v1" => |m| total(&m.lines, m.amount),
    CancelRequested = "order.cancel_requested.v1",
    ConfirmRejected = "order.confirm_rejected.v1",
    OrderCompleted = "order.completed.v1",
}

/// The kinds of saga that the orchestrator can run for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Saga {
    /// Carries a new order to its end.
    PlaceOrder,
    /// Undoes an order that was confirmed.
    UndoOrder,
}

/// The customer who placed the order, and their mail address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Customer {
    pub id: CustomerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
}

/// A participant that has to undo its part of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Participant {
    /// Payment, which refunds the money.
    Payment,
    /// Inventory, which releases the stock.
    Inventory,
}

/// The reason for which an order is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The wallet or the card was declined.
    PaymentDeclined,
    /// Inventory could not reserve every line.
    OutOfStock,
    /// The customer cancelled it.
    Customer,
    /// An operator cancelled it.
    Operator,
    /// A participant did not answer in time.
    Deadline,
}
