//! Cancelling an order.

use contracts::{order::CancelReason, value::OrderId};
use sqlx::PgConnection;

use super::{choreography, orchestration};
use crate::{
    config::WaitingSettings,
    domain::Coordination,
    error::Error,
    store::{self, StoredOrder},
};

/// Cancels an order for a reason, and returns it as it is then. A repeated cancel changes nothing.
pub(crate) async fn cancel(
    conn: &mut PgConnection,
    id: OrderId,
    reason: CancelReason,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let mut stored = store::lock_one(conn, id)
        .await?
        .ok_or(Error::UnknownOrder(id))?;
    match stored.coordination {
        Coordination::Choreography => {
            choreography::cancel(conn, &mut stored, reason, waiting).await?;
        }
        Coordination::Orchestration => {
            orchestration::cancel(conn, &mut stored, reason, waiting).await?;
        }
    }
    Ok(stored)
}
