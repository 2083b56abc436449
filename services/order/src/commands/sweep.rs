//! Asking again for what has not been answered.

use std::time::Duration;

use holdfast::outbox;
use sqlx::PgConnection;
use tracing::{Instrument, info};

use super::{choreography, orchestration, trace::unasked};
use crate::{
    config::{LONGEST_SWEEP, WaitingSettings},
    domain::Coordination,
    error::Error,
    store::{self, StoredOrder},
};

/// Asks again for what has not been answered, or calls an operator; answers how many orders it was. Only of those whose
/// answer could have come in: `heard_for` is since when messages have.
pub(crate) async fn sweep(
    conn: &mut PgConnection,
    limit: i64,
    heard_for: Duration,
    waiting: &WaitingSettings,
) -> Result<usize, Error> {
    let (first, longest) = (waiting.sweep_after(), LONGEST_SWEEP);
    let due = store::due_for_sweep(conn, limit, heard_for, first, longest).await?;
    for stored in &due {
        let sweeps = u32::try_from(stored.sweeps).unwrap_or(u32::MAX);
        let next = waiting.sweep_again(sweeps);
        if next.is_some() {
            let span = unasked(stored, "sweep");
            let messages = span.in_scope(|| again(stored))?;
            outbox::enqueue(conn, &messages).instrument(span).await?;
            info!(order.id = %stored.new.id, state = ?stored.order.state, sweeps = sweeps + 1, "asked again");
        } else {
            tracing::error!(order.id = %stored.new.id, state = ?stored.order.state, "the order is stuck");
        }
        store::swept(conn, stored.new.id, next).await?;
    }
    Ok(due.len())
}

/// What is said again to whoever has not answered.
pub(super) fn again(stored: &StoredOrder) -> Result<Vec<outbox::Message>, Error> {
    match stored.coordination {
        Coordination::Choreography => choreography::again(stored),
        Coordination::Orchestration => orchestration::again(stored),
    }
}
