//! What the order service publishes.

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
    /// What was ordered, at the prices that inventory gave when the order was accepted: 1 to 100 lines, each of another
    /// product, all in one currency.
    pub lines: Vec<PricedLine>,
    /// The sum of the lines, in their currency.
    pub amount: Money,
    pub payment: PaymentMethod,
}

/// Paid and reserved. Inventory commits the reservation, notification tells the customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderConfirmed {
    pub order_id: OrderId,
    pub order_version: u32,
    pub customer: Customer,
    pub amount: Money,
}

/// The order is being undone. Payment refunds, inventory releases; both answer, also when they have nothing to undo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderCancelling {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
}

/// An operator ends what could not be undone by message: the participants that are named write it off, unless they have
/// undone it meanwhile, and never act on this order again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderSettling {
    pub order_id: OrderId,
    pub order_version: u32,
    /// Who writes it off.
    pub participants: Vec<Participant>,
    /// Who decided it.
    pub operator: String,
    /// Why, and what was done instead.
    pub note: String,
}

/// Undone: the money is back and the stock is free.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderCancelled {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
    pub customer: Customer,
    pub amount: Money,
    /// Whether money had been taken and was given back.
    pub refunded: bool,
    /// Whether an operator wrote payment's part off: what had been taken, if anything, is put right outside of this system.
    #[serde(default)]
    pub settled: bool,
}

/// To the orchestrator: an order takes the orchestrated way, or is cancelled after that ended well. One saga for each, however
/// often this comes.
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

/// To the orchestrator: the order was cancelled before it was confirmed, so it need not try any longer. Only a hint: the order
/// will not be confirmed whether or not this arrives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct CancelRequested {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
}

/// Answer to `orchestrator.confirm_order`: it was cancelled before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct ConfirmRejected {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: CancelReason,
}

/// Answer to `orchestrator.complete_order`: it knows.
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

/// What the orchestrator can be asked to do with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Saga {
    /// Carry a new order to its end.
    PlaceOrder,
    /// Undo an order that was confirmed.
    UndoOrder,
}

/// Who ordered, and where to write to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Customer {
    pub id: CustomerId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<Email>,
}

/// Who has to undo its part of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Participant {
    /// The money.
    Payment,
    /// The stock.
    Inventory,
}

/// Why an order is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CancelReason {
    /// The wallet or the card said no.
    PaymentDeclined,
    /// Inventory could not reserve every line.
    OutOfStock,
    /// The customer asked.
    Customer,
    /// An operator asked.
    Operator,
    /// Nobody answered in time.
    Deadline,
}
