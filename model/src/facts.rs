//! The facts about one order.

use inventory::domain as stock;
use order::domain::{self as orders, orchestrated};
use payment::domain as money;

use contracts::order::Participant;

/// A fact by its type, about the one order of the model: an event in choreography, a reply in orchestration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fact {
    OrderCreated,
    OrderConfirmed,
    OrderConfirmRejected,
    OrderCompleted,
    OrderCancelling,
    OrderCancelled,
    OrderSettlingPayment,
    OrderSettlingInventory,
    PaymentCompleted,
    PaymentDeclined,
    PaymentRefunded,
    PaymentNothingToUndo,
    PaymentSettled,
    InventoryReserved,
    InventoryRejected,
    InventoryCommitted,
    InventoryReleased,
    InventoryNothingToUndo,
    InventorySettled,
    NotificationQueued,
}

impl Fact {
    /// Every fact, in the order of declaration.
    pub const ALL: [Self; 20] = [
        Self::OrderCreated,
        Self::OrderConfirmed,
        Self::OrderConfirmRejected,
        Self::OrderCompleted,
        Self::OrderCancelling,
        Self::OrderCancelled,
        Self::OrderSettlingPayment,
        Self::OrderSettlingInventory,
        Self::PaymentCompleted,
        Self::PaymentDeclined,
        Self::PaymentRefunded,
        Self::PaymentNothingToUndo,
        Self::PaymentSettled,
        Self::InventoryReserved,
        Self::InventoryRejected,
        Self::InventoryCommitted,
        Self::InventoryReleased,
        Self::InventoryNothingToUndo,
        Self::InventorySettled,
        Self::NotificationQueued,
    ];

    /// Returns the type on the wire, without its version.
    pub fn kind(self) -> &'static str {
        match self {
            Self::OrderCreated => "order.created",
            Self::OrderConfirmed => "order.confirmed",
            Self::OrderConfirmRejected => "order.confirm_rejected",
            Self::OrderCompleted => "order.completed",
            Self::OrderCancelling => "order.cancelling",
            Self::OrderCancelled => "order.cancelled",
            Self::OrderSettlingPayment | Self::OrderSettlingInventory => "order.settling",
            Self::PaymentCompleted => "payment.completed",
            Self::PaymentDeclined => "payment.declined",
            Self::PaymentRefunded => "payment.refunded",
            Self::PaymentNothingToUndo => "payment.nothing_to_undo",
            Self::PaymentSettled => "payment.settled",
            Self::InventoryReserved => "inventory.reserved",
            Self::InventoryRejected => "inventory.rejected",
            Self::InventoryCommitted => "inventory.committed",
            Self::InventoryReleased => "inventory.released",
            Self::InventoryNothingToUndo => "inventory.nothing_to_undo",
            Self::InventorySettled => "inventory.settled",
            Self::NotificationQueued => "notification.queued",
        }
    }
}

impl From<money::Answer> for Fact {
    fn from(answer: money::Answer) -> Self {
        match answer {
            money::Answer::Completed => Self::PaymentCompleted,
            money::Answer::Declined(_) => Self::PaymentDeclined,
            money::Answer::Refunded => Self::PaymentRefunded,
            money::Answer::NothingToUndo => Self::PaymentNothingToUndo,
            money::Answer::Settled => Self::PaymentSettled,
        }
    }
}

impl From<stock::Answer> for Fact {
    fn from(answer: stock::Answer) -> Self {
        match answer {
            stock::Answer::Reserved => Self::InventoryReserved,
            stock::Answer::Rejected(_) => Self::InventoryRejected,
            stock::Answer::Committed => Self::InventoryCommitted,
            stock::Answer::Released { .. } => Self::InventoryReleased,
            stock::Answer::NothingToUndo => Self::InventoryNothingToUndo,
            stock::Answer::Settled => Self::InventorySettled,
        }
    }
}

impl From<orders::Fact> for Fact {
    fn from(fact: orders::Fact) -> Self {
        match fact {
            orders::Fact::Created => Self::OrderCreated,
            orders::Fact::Confirmed => Self::OrderConfirmed,
            orders::Fact::Cancelling(_) => Self::OrderCancelling,
            orders::Fact::Settling(Participant::Payment) => Self::OrderSettlingPayment,
            orders::Fact::Settling(Participant::Inventory) => Self::OrderSettlingInventory,
            orders::Fact::Cancelled { .. } => Self::OrderCancelled,
        }
    }
}

impl From<orchestrated::Answer> for Fact {
    fn from(answer: orchestrated::Answer) -> Self {
        match answer {
            orchestrated::Answer::Confirmed => Self::OrderConfirmed,
            orchestrated::Answer::ConfirmRejected(_) => Self::OrderConfirmRejected,
            orchestrated::Answer::Completed => Self::OrderCompleted,
            orchestrated::Answer::Cancelled { .. } => Self::OrderCancelled,
        }
    }
}
