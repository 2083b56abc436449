//! What the inventory service publishes.

use serde::{Deserialize, Serialize};

use crate::{
    message::messages,
    value::{OrderId, Sku},
};

/// Every line is set aside for the order. The order confirms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryReserved {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Nothing was set aside, and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryRejected {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: RejectReason,
    /// The first line that could not be served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sku: Option<Sku>,
}

/// Answer to `order.confirmed`: the reserved units are sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryCommitted {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Answer to `order.cancelling`: what was set aside, or sold, is available again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryReleased {
    pub order_id: OrderId,
    pub order_version: u32,
    /// Whether the units had been sold already and were put back on the shelf.
    pub restocked: bool,
}

/// Answer to `order.cancelling`: nothing was set aside, and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryNothingToUndo {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Answer to `order.settling`: an operator wrote the units off; they will not be released by message any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventorySettled {
    pub order_id: OrderId,
    pub order_version: u32,
}

messages! {
    InventoryReserved = "inventory.reserved.v1",
    InventoryRejected = "inventory.rejected.v1",
    InventoryCommitted = "inventory.committed.v1",
    InventoryReleased = "inventory.released.v1",
    InventoryNothingToUndo = "inventory.nothing_to_undo.v1",
    InventorySettled = "inventory.settled.v1",
}

/// Why nothing was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Fewer units are available than were ordered.
    OutOfStock,
    /// The catalogue does not have the product (any more).
    UnknownSku,
    /// The order was cancelled before anything was set aside.
    OrderCancelled,
}
