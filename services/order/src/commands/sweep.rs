//! Sweeps: resending the messages whose answers have not come.

use std::time::Duration;

use holdfast::outbox;
use sqlx::PgConnection;
use tracing::{Instrument, error, info};

use super::{choreography, orchestration, trace::unasked};
use crate::{
    config::{LONGEST_SWEEP, WaitingSettings},
    domain::Coordination,
    error::Error,
    store::{self, StoredOrder},
};

/// The numbers of orders, by what a sweep did to them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Swept {
    /// Orders whose messages were resent.
    pub(crate) asked_again: usize,
    /// Orders whose messages were resent often enough before; they wait for an operator now.
    pub(crate) stuck: usize,
}

/// Resends the messages whose answers are missing, or marks the order as stuck. Leaves out the orders whose answer
/// could not have arrived: `heard_for` is the time for which messages have come in without a break.
pub(crate) async fn sweep(
    conn: &mut PgConnection,
    limit: i64,
    heard_for: Duration,
    waiting: &WaitingSettings,
) -> Result<Swept, Error> {
    let (first, longest) = (waiting.sweep_after(), LONGEST_SWEEP);
    let due = store::due_for_sweep(conn, limit, heard_for, first, longest).await?;
    let mut swept = Swept::default();
    for stored in &due {
        let (id, state) = (stored.new.id, stored.order.state);
        let sweeps = u32::try_from(stored.sweeps).unwrap_or(u32::MAX);
        if let Some(next) = waiting.sweep_again(sweeps) {
            let span = unasked(stored, "sweep");
            let messages = span.in_scope(|| resend(stored))?;
            outbox::enqueue(conn, &messages).instrument(span).await?;
            info!(order.id = %id, ?state, sweeps = sweeps + 1, "asked again");
            store::asked_again(conn, id, next).await?;
            swept.asked_again += 1;
        } else {
            error!(order.id = %id, ?state, "the order is stuck");
            store::mark_stuck(conn, id).await?;
            swept.stuck += 1;
        }
    }
    Ok(swept)
}

/// Returns the messages that are resent for an order.
pub(super) fn resend(stored: &StoredOrder) -> Result<Vec<outbox::Message>, Error> {
    match stored.coordination {
        Coordination::Choreography => choreography::resend(stored),
        Coordination::Orchestration => orchestration::resend(stored),
    }
}
