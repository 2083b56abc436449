//! `place_order`: carries a new order to its end.

use contracts::{
    orchestrator::{
        ChargePayment, CommitInventory, CompleteOrder, ConfirmOrder, News, ReserveInventory,
    },
    order::CancelReason,
};
use holdfast::saga::{Cause, Definition, Step, View};

use super::{
    Command, Data, FOR_EVER, PATIENT, cancel_order, refund_payment, release_inventory,
    send_notification, settle_inventory, settle_payment, undoing,
};

/// The saga of a new order: it is charged, reserved, confirmed and sold, or each of these is undone.
pub static PLACE_ORDER: Definition<Data, Command> = Definition {
    name: "place_order",
    version: 1,
    steps: &[
        // Undone last, so that a customer is notified of a cancel once it is complete. Resent without a limit: an
        // operator cannot write off the end of an order, or the news for its customer.
        Step {
            name: "tell_customer",
            action: None,
            compensation: Some(tell_cancelled),
            settlement: None,
            retry: PATIENT,
            undo_retry: FOR_EVER,
            pivot: false,
        },
        // Done by the order service, in the transaction that requested this saga.
        Step {
            name: "create_order",
            action: None,
            compensation: Some(give_up),
            settlement: None,
            retry: PATIENT,
            undo_retry: FOR_EVER,
            pivot: false,
        },
        Step {
            name: "charge_payment",
            action: Some(charge),
            compensation: Some(refund_payment),
            settlement: Some(settle_payment),
            retry: PATIENT,
            undo_retry: PATIENT,
            pivot: false,
        },
        Step {
            name: "reserve_inventory",
            action: Some(reserve),
            compensation: Some(release_inventory),
            settlement: Some(settle_inventory),
            retry: PATIENT,
            undo_retry: PATIENT,
            pivot: false,
        },
        Step {
            name: "confirm_order",
            action: Some(confirm),
            compensation: None,
            settlement: None,
            retry: FOR_EVER,
            undo_retry: PATIENT,
            pivot: true,
        },
        Step {
            name: "commit_inventory",
            action: Some(commit),
            compensation: None,
            settlement: None,
            retry: FOR_EVER,
            undo_retry: PATIENT,
            pivot: false,
        },
        Step {
            name: "complete_order",
            action: Some(complete),
            compensation: None,
            settlement: None,
            retry: FOR_EVER,
            undo_retry: PATIENT,
            pivot: false,
        },
        Step {
            name: "send_notification",
            action: Some(tell_confirmed),
            compensation: None,
            settlement: None,
            retry: FOR_EVER,
            undo_retry: PATIENT,
            pivot: false,
        },
    ],
};

fn charge(saga: &View<'_, Data>) -> Command {
    let Data {
        order_id,
        order_version,
        customer,
        lines,
        amount,
        payment,
        ..
    } = saga.data.clone();
    Command::ChargePayment(ChargePayment {
        order_id,
        order_version,
        customer,
        lines,
        amount,
        payment,
    })
}

fn reserve(saga: &View<'_, Data>) -> Command {
    Command::ReserveInventory(ReserveInventory {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
        lines: saga.data.lines.clone(),
    })
}

fn confirm(saga: &View<'_, Data>) -> Command {
    Command::ConfirmOrder(ConfirmOrder {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
    })
}

fn commit(saga: &View<'_, Data>) -> Command {
    Command::CommitInventory(CommitInventory {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
    })
}

fn complete(saga: &View<'_, Data>) -> Command {
    Command::CompleteOrder(CompleteOrder {
        order_id: saga.data.order_id,
        order_version: saga.data.order_version,
    })
}

fn tell_confirmed(saga: &View<'_, Data>) -> Command {
    send_notification(saga, News::Confirmed)
}

fn give_up(saga: &View<'_, Data>) -> Command {
    cancel_order(saga, reason(saga), "charge_payment", "reserve_inventory")
}

fn tell_cancelled(saga: &View<'_, Data>) -> Command {
    let payment = undoing(saga.status("charge_payment"));
    let reason = reason(saga);
    send_notification(saga, News::Cancelled { reason, payment })
}

/// Returns the reason of the cancel, for the order's row and for the customer.
fn reason(saga: &View<'_, Data>) -> CancelReason {
    match saga.cause() {
        Some(("charge_payment", Cause::Refused { .. })) => CancelReason::PaymentDeclined,
        Some(("reserve_inventory", Cause::Refused { .. })) => CancelReason::OutOfStock,
        Some(("confirm_order", Cause::Refused { .. })) => named(
            saga.answer("confirm_order")
                .and_then(|answer| answer.detail.as_deref()),
        ),
        Some((_, Cause::Cancelled { reason, .. })) => named(Some(reason)),
        Some((_, Cause::Refused { .. } | Cause::TimedOut { .. })) | None => CancelReason::Deadline,
    }
}

/// Returns the reason of a cancel before the confirmation, by the customer or by an operator.
fn named(reason: Option<&str>) -> CancelReason {
    match reason {
        Some("operator") => CancelReason::Operator,
        _ => CancelReason::Customer,
    }
}
