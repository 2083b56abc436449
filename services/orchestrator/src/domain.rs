//! The sagas, as data: [`PLACE_ORDER`] and [`UNDO_ORDER`]. No I/O; what a saga does with them is decided by
//! [`holdfast::saga::transition`].
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
use holdfast::saga::{Definition, Mark, Retry, View};
pub use place_order::PLACE_ORDER;
use serde::Serialize;
pub use undo_order::UNDO_ORDER;
use uuid::Uuid;

/// What a saga knows of its order: what it was started with.
pub type Data = StartSaga;

/// Every definition that a saga may run under, in every version.
pub static DEFINITIONS: [&Definition<Data, Command>; 2] = [&PLACE_ORDER, &UNDO_ORDER];

/// What a saga sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Command {
    /// To payment.
    ChargePayment(ChargePayment),
    /// To payment.
    RefundPayment(RefundPayment),
    /// To payment.
    SettlePayment(SettlePayment),
    /// To inventory.
    ReserveInventory(ReserveInventory),
    /// To inventory.
    CommitInventory(CommitInventory),
    /// To inventory.
    ReleaseInventory(ReleaseInventory),
    /// To inventory.
    SettleInventory(SettleInventory),
    /// To order.
    ConfirmOrder(ConfirmOrder),
    /// To order.
    CompleteOrder(CompleteOrder),
    /// To order.
    CancelOrder(CancelOrder),
    /// To notification.
    SendNotification(SendNotification),
}

/// The definition that carries out what an order asks for.
pub fn definition(saga: Saga) -> &'static Definition<Data, Command> {
    match saga {
        Saga::PlaceOrder => &PLACE_ORDER,
        Saga::UndoOrder => &UNDO_ORDER,
    }
}

/// The id of an order's saga: it follows from both, so that there is one of each for ever.
pub fn saga_id(order: OrderId, saga: Saga) -> Uuid {
    Uuid::new_v5(&order.0, definition(saga).name.as_bytes())
}

/// Returns the source of a step's answers: the service that is asked to do it, or to undo it. `None` for a step that there is
/// not.
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

/// Asks for a quarter of an hour: longer than any one service, or the card company, should be away.
const PATIENT: Retry = Retry {
    timeout: Duration::from_secs(20),
    longest: Duration::from_secs(120),
    attempts: Some(10),
};

/// Asks until it is done: there is no way back.
const FOR_EVER: Retry = Retry {
    timeout: Duration::from_secs(10),
    longest: Duration::from_secs(60),
    attempts: None,
};

/// What became of a step that takes or gives back, as the order is to know it.
fn undoing(mark: &Mark) -> Undoing {
    let word = mark
        .answer()
        .and_then(|answer| answer.kind.rsplit('.').next());
    match (mark, word) {
        // Never asked, or promised not to.
        (Mark::Waiting | Mark::Refused(_), _) => Undoing::NothingToUndo,
        (_, Some("refunded" | "released")) => Undoing::Undone,
        (_, Some("nothing_to_undo")) => Undoing::NothingToUndo,
        // Written off by who has it; or skipped, and nobody but the operator knows.
        (_, _) => Undoing::Settled,
    }
}

/// The operator's name and note, for what is written off.
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

/// What cancels the order, by what became of the two steps.
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
        payment: undoing(saga.mark(payment)),
        inventory: undoing(saga.mark(inventory)),
    })
}

/// What tells the customer. The order's next version is what the news is about.
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
