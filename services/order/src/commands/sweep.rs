//! Sweeps: asking again for answers that have not come.

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

/// Asks again for missing answers, or marks the order as stuck. Returns the number of orders. Leaves out the orders
/// whose answer could not have arrived: `heard_for` is the time for which messages have come in without a break.
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
            let messages = span.in_scope(|| resend(stored))?;
            outbox::enqueue(conn, &messages).instrument(span).await?;
            info!(order.id = %stored.new.id, state = ?stored.order.state, sweeps = sweeps + 1, "asked again");
        } else {
            tracing::error!(order.id = %stored.new.id, state = ?stored.order.state, "the order is stuck");
        }
        store::swept(conn, stored.new.id, next).await?;
    }
    Ok(due.len())
}

/// Returns the messages that ask again for what an order awaits.
pub(super) fn resend(stored: &StoredOrder) -> Result<Vec<outbox::Message>, Error> {
    match stored.coordination {
        Coordination::Choreography => choreography::resend(stored),
        Coordination::Orchestration => orchestration::resend(stored),
    }
}
