//! `undo_order`: undoes a confirmed order that its customer cancelled.

use contracts::{orchestrator::News, order::CancelReason};
use holdfast::saga::{Definition, Step, View};

use super::{
    Command, Data, FOR_EVER, PATIENT, cancel_order, refund_payment, release_inventory,
    send_notification, settle_inventory, settle_payment, undoing,
};

/// The saga that undoes a confirmed order. It only goes forward: its pivot is the cancel, which the order's row has
/// decided.
///
/// It may run while `place_order` still carries out the steps after its own pivot. Each participant has one permanent
/// row per order, which makes one outcome of the two.
pub static UNDO_ORDER: Definition<Data, Command> = Definition {
    name: "undo_order",
    version: 1,
    steps: &[
        Step {
            name: "confirmed_order",
            action: None,
            compensation: None,
            settlement: None,
            retry: PATIENT,
            undo_retry: PATIENT,
            pivot: true,
        },
        Step {
            name: "refund_payment",
            action: Some(refund_payment),
            compensation: None,
            settlement: Some(settle_payment),
            retry: PATIENT,
            undo_retry: PATIENT,
            pivot: false,
        },
        Step {
            name: "release_inventory",
            action: Some(release_inventory),
            compensation: None,
            settlement: Some(settle_inventory),
            retry: PATIENT,
            undo_retry: PATIENT,
            pivot: false,
        },
        Step {
            name: "cancel_order",
            action: Some(cancel),
            compensation: None,
            settlement: None,
            retry: FOR_EVER,
            undo_retry: PATIENT,
            pivot: false,
        },
        Step {
            name: "send_notification",
            action: Some(tell_cancelled),
            compensation: None,
            settlement: None,
            retry: FOR_EVER,
            undo_retry: PATIENT,
            pivot: false,
        },
    ],
};

fn cancel(saga: &View<'_, Data>) -> Command {
    cancel_order(
        saga,
        CancelReason::Customer,
        "refund_payment",
        "release_inventory",
    )
}

fn tell_cancelled(saga: &View<'_, Data>) -> Command {
    let payment = undoing(saga.status("refund_payment"));
    send_notification(
        saga,
        News::Cancelled {
            reason: CancelReason::Customer,
            payment,
        },
    )
}
