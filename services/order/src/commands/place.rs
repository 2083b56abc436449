//! Placing an order.

use holdfast::outbox;
use sqlx::PgConnection;

use super::{choreography, orchestration};
use crate::{
    config::WaitingSettings,
    domain::Coordination,
    error::Error,
    store::{self, NewOrder, StoredOrder},
};

/// Accepts an order: writes it, and the message that starts it, both or none.
pub(crate) async fn place(
    conn: &mut PgConnection,
    order: &NewOrder,
    coordination: Coordination,
    waiting: &WaitingSettings,
) -> Result<StoredOrder, Error> {
    let stored = store::insert(conn, order, coordination, waiting.sweep_after()).await?;
    let begun = match coordination {
        Coordination::Choreography => choreography::begin(&stored),
        Coordination::Orchestration => orchestration::begin(&stored),
    };
    outbox::enqueue(conn, &[begun]).await?;
    Ok(stored)
}
