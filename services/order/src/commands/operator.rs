//! Operator actions on an order. Each is recorded with the operator's name and note.

use contracts::{
    order::{CancelReason, Participant},
    value::OrderId,
};
use holdfast::outbox;
use sqlx::PgConnection;

use super::{by_operator::ByOperator, cancel::cancel, choreography, sweep::resend};
use crate::{
    config::WaitingSettings,
    domain::Coordination,
    error::Error,
    store::{self, StoredOrder},
};

/// Cancels a pending order for an operator.
pub(crate) async fn cancel_by_operator(
    conn: &mut PgConnection,
    id: OrderId,
    by: &ByOperator<'_>,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let before = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    let stored = cancel(conn, id, CancelReason::Operator, waiting).await?;
    // An order that was being cancelled already is not this operator's action.
    if stored.order != before.order {
        store::record_action(conn, id, "cancelled", by.operator, by.note).await?;
    }
    Ok(stored)
}

/// Resends at once the messages whose answers an order awaits, and starts its wait again.
pub(crate) async fn resume(
    conn: &mut PgConnection,
    id: OrderId,
    by: &ByOperator<'_>,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let stored = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    if stored.order.is_at_rest() {
        return Err(Error::AtRest);
    }
    outbox::enqueue(conn, &resend(&stored)?).await?;
    store::unstick(conn, id, waiting.sweep_after()).await?;
    store::record_action(conn, id, "resumed", by.operator, by.note).await?;
    Ok(stored)
}

/// Has participants write off what they cannot undo. The order ends when they have answered that they did: until then
/// one of them could still undo its part.
pub(crate) async fn settle(
    conn: &mut PgConnection,
    id: OrderId,
    participants: &[Participant],
    by: &ByOperator<'_>,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let stored = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    // The participants of an orchestrated order answer to its saga, so an operator settles it there.
    if stored.coordination == Coordination::Orchestration {
        return Err(Error::SettledAtSaga);
    }
    if stored.stuck_since.is_none() {
        return Err(Error::NotStuck);
    }
    outbox::enqueue(conn, &choreography::settle(&stored, participants, by)?).await?;
    store::unstick(conn, id, waiting.sweep_after()).await?;
    store::record_action(conn, id, "settled", by.operator, by.note).await?;
    Ok(stored)
}
