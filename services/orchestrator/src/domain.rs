//! The sagas, as data: [`PLACE_ORDER`] and [`UNDO_ORDER`]. There is no I/O here, and [`holdfast::saga::transition`]
//! decides how a saga goes through its steps.
//!
//! ```text
//! place_order                        undone by              written off by
//!   tell_customer     –              send_notification
//!   create_order      (order did)    cancel_order
//!   charge_payment    charge         refund                 settle_payment
//!   reserve_inventory reserve        release                settle_inventory
//!   confirm_order     confirm        – the pivot: the order's row arbitrates
//!   commit_inventory  commit
//!   complete_order    complete
//!   send_notification send
//!
//! undo_order, only forward
//!   confirmed_order   (order did)    the pivot
//!   refund_payment    refund                                settle_payment
//!   release_inventory release                               settle_inventory
//!   cancel_order      cancel
//!   send_notification send
//! ```

mod place_order;
mod undo_order;

use std::time::Duration;

use contracts::{
    orchestrator::{
        CancelOrder, ChargePayment, CommitInventory, CompleteOrder, ConfirmOrder, News,
        RefundPayment, ReleaseInventory, ReserveInventory, SendNotification, SettleInventory,
        SettlePayment, Undoing,
    },
    order::{CancelReason, Saga, StartSaga},
    value::OrderId,
};
use holdfast::saga::{Definition, Retry, Status, View};
pub use place_order::PLACE_ORDER;
use serde::Serialize;
pub use undo_order::UNDO_ORDER;
use uuid::Uuid;

/// The data that a saga is started with.
pub type Data = StartSaga;

/// All definitions that a saga may run under, in every version.
pub static DEFINITIONS: [&Definition<Data, Command>; 2] = [&PLACE_ORDER, &UNDO_ORDER];

/// A command of a saga, by its type on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// A charge, sent to payment.
    ChargePayment(ChargePayment),
    /// A refund of the charge, sent to payment.
    RefundPayment(RefundPayment),
    /// A write-off of the charge, sent to payment.
    SettlePayment(SettlePayment),
    /// A reservation of the order's lines, sent to inventory.
    ReserveInventory(ReserveInventory),
    /// The sale of what is reserved, sent to inventory.
    CommitInventory(CommitInventory),
    /// A release of the reservation, sent to inventory.
    ReleaseInventory(ReleaseInventory),
    /// A write-off of the reservation, sent to inventory.
    SettleInventory(SettleInventory),
    /// The confirmation, sent to order.
    ConfirmOrder(ConfirmOrder),
    /// The end of a confirmed order, sent to order.
    CompleteOrder(CompleteOrder),
    /// A cancel, sent to order.
    CancelOrder(CancelOrder),
    /// The news for the customer, sent to notification.
    SendNotification(SendNotification),
}

/// Returns the definition of a saga that an order requests.
pub fn definition(saga: Saga) -> &'static Definition<Data, Command> {
    match saga {
        Saga::PlaceOrder => &PLACE_ORDER,
        Saga::UndoOrder => &UNDO_ORDER,
    }
}

/// Returns the id of an order's saga. It follows from both, so an order has each of its sagas only once.
pub fn saga_id(order: OrderId, saga: Saga) -> Uuid {
    Uuid::new_v5(&order.0, definition(saga).name.as_bytes())
}

/// Returns the source of a step's replies: the service that carries out the step and its compensation. `None` for a
/// step that does not exist.
pub fn participant(step: &str) -> Option<&'static str> {
    match step {
        "charge_payment" | "refund_payment" => Some("/payment"),
        "reserve_inventory" | "commit_inventory" | "release_inventory" => Some("/inventory"),
        "create_order" | "confirm_order" | "complete_order" | "cancel_order"
        | "confirmed_order" => Some("/order"),
        "tell_customer" | "send_notification" => Some("/notification"),
        _ => None,
    }
}

/// Attempts over a quarter of an hour: longer than any service, or the card processor, should be unavailable.
const PATIENT: Retry = Retry {
    timeout: Duration::from_secs(20),
    longest: Duration::from_secs(120),
    attempts: Some(10),
};

/// Attempts without a limit, for steps that must succeed because there is no way back.
const FOR_EVER: Retry = Retry {
    timeout: Duration::from_secs(10),
    longest: Duration::from_secs(60),
    attempts: None,
};

/// Returns the outcome of a charge or reservation in the order's terms.
fn undoing(status: &Status) -> Undoing {
    let word = status
        .answer()
        .and_then(|answer| answer.kind.rsplit('.').next());
    match (status, word) {
        // The command was not sent, or was refused, and a refusal is final.
        (Status::Waiting | Status::Refused(_), _) => Undoing::NothingToUndo,
        (_, Some("refunded" | "released")) => Undoing::Undone,
        (_, Some("nothing_to_undo")) => Undoing::NothingToUndo,
        // Written off by the participant; or skipped, and only the operator knows the outcome.
        (_, _) => Undoing::Settled,
    }
}

/// Returns the id and the note of the operator who has the current step written off.
fn operator(saga: &View<'_, Data>) -> (String, String) {
    let by = saga.operator();
    by.map_or_else(Default::default, |by| {
        (by.operator.clone(), by.note.clone())
    })
}

fn refund_payment(saga: &View<'_, Data>) -> Command {
    Command::RefundPayment(RefundPayment {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
    })
}

fn settle_payment(saga: &View<'_, Data>) -> Command {
    let (operator, note) = operator(saga);
    Command::SettlePayment(SettlePayment {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
        operator,
        note,
    })
}

fn release_inventory(saga: &View<'_, Data>) -> Command {
    Command::ReleaseInventory(ReleaseInventory {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
    })
}

fn settle_inventory(saga: &View<'_, Data>) -> Command {
    let (operator, note) = operator(saga);
    Command::SettleInventory(SettleInventory {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
        operator,
        note,
    })
}

/// Returns the command that cancels the order, with the outcomes of the two steps.
fn cancel_order(
    saga: &View<'_, Data>,
    reason: CancelReason,
    payment: &str,
    inventory: &str,
) -> Command {
    Command::CancelOrder(CancelOrder {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
        reason,
        payment: undoing(saga.status(payment)),
        inventory: undoing(saga.status(inventory)),
    })
}

/// Returns the command that notifies the customer. Its version is the order's next one, which the news is about.
fn send_notification(saga: &View<'_, Data>, news: News) -> Command {
    let Data {
        order_id,
        order_version,
        customer,
        amount,
        ..
    } = saga.data.clone();
    Command::SendNotification(SendNotification {
        order_id,
        order_version: order_version + 1,
        customer,
        amount,
        news,
    })
}

#[cfg(test)]
mod tests;
