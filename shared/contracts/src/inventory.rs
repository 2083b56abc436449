//! The messages that the inventory service publishes.

use serde::{Deserialize, Serialize};

use crate::{
    message::messages,
    value::{OrderId, Sku},
};

/// Every line is reserved for the order. The order service confirms it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryReserved {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Nothing was reserved, and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryRejected {
    pub order_id: OrderId,
    pub order_version: u32,
    pub reason: RejectReason,
    /// The product of the first line that could not be reserved.
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

/// Answer to `order.cancelling`: the units that were reserved, or sold, are available again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryReleased {
    pub order_id: OrderId,
    pub order_version: u32,
    /// True if the units had been sold already and were put back on the shelf.
    pub restocked: bool,
}

/// Answer to `order.cancelling`: nothing was reserved, and nothing will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct InventoryNothingToUndo {
    pub order_id: OrderId,
    pub order_version: u32,
}

/// Answer to `order.settling`: an operator wrote the units off; no message will release them.
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

/// The reason for which nothing was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RejectReason {
    /// Fewer units are available than were ordered.
    OutOfStock,
    /// The catalogue does not have the product, or no longer has it.
    UnknownSku,
    /// The order was cancelled before anything was reserved.
    OrderCancelled,
}
