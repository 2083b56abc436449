//! The messages that answer events and commands.

use chassis::events::{Answering, Publishing};
use contracts::inventory::{
    InventoryCommitted, InventoryNothingToUndo, InventoryRejected, InventoryReleased,
    InventoryReserved, InventorySettled,
};
use holdfast::outbox;

use crate::{
    domain::{Answer, Rejection},
    store::Reservation,
};

/// Builds the outbox row of an answer.
pub(super) fn message(
    publishing: &Publishing<'_>,
    answering: Answering<'_>,
    reservation: &Reservation,
    answer: Answer,
) -> outbox::Message {
    let Reservation {
        order_id,
        order_version,
        ..
    } = *reservation;
    match answer {
        Answer::Reserved => publishing.answer(
            answering,
            &InventoryReserved {
                order_id,
                order_version,
            },
            "inventory/do",
        ),
        Answer::Rejected(Rejection { reason, sku }) => publishing.answer(
            answering,
            &InventoryRejected {
                order_id,
                order_version,
                reason,
                sku,
            },
            "inventory/do",
        ),
        Answer::Committed => publishing.answer(
            answering,
            &InventoryCommitted {
                order_id,
                order_version,
            },
            "inventory/commit",
        ),
        Answer::Released { restocked } => publishing.answer(
            answering,
            &InventoryReleased {
                order_id,
                order_version,
                restocked,
            },
            "inventory/undo",
        ),
        Answer::NothingToUndo => publishing.answer(
            answering,
            &InventoryNothingToUndo {
                order_id,
                order_version,
            },
            "inventory/undo",
        ),
        Answer::Settled => publishing.answer(
            answering,
            &InventorySettled {
                order_id,
                order_version,
            },
            "inventory/settle",
        ),
    }
}
