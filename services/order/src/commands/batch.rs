//! Many orders changed at once: locked in one order, changed in memory, each written once.

use std::collections::{BTreeMap, btree_map::Entry};

use chassis::tally::Tally;
use contracts::value::OrderId;
use holdfast::{failpoint, outbox};
use metrics::{counter, histogram};
use sqlx::PgConnection;
use time::OffsetDateTime;

use crate::{
    config::WaitingSettings,
    domain::{Coordination, State, Undo},
    error::Error,
    store::{self, Saved, StoredOrder},
};

/// The locked orders of a batch, with what is to be written at its end.
pub(super) struct Batch {
    /// The coordination of all orders in it: a message of one kind cannot be about an order of the other.
    coordination: Coordination,
    orders: BTreeMap<OrderId, StoredOrder>,
    changed: BTreeMap<OrderId, Saved>,
    messages: Vec<outbox::Message>,
    tally: Tally,
}

impl Batch {
    /// Locks these orders, in the order of their ids.
    pub(super) async fn lock(
        conn: &mut PgConnection,
        coordination: Coordination,
        orders: impl Iterator<Item = OrderId>,
    ) -> Result<Self, Error> {
        let mut ids: Vec<OrderId> = orders.collect();
        ids.sort_unstable();
        ids.dedup();
        Ok(Self {
            coordination,
            orders: store::lock(conn, &ids).await?,
            changed: BTreeMap::new(),
            messages: Vec::new(),
            tally: Tally::default(),
        })
    }

    /// Returns an order as the messages before left it. Errors if it is unknown, or has the other coordination.
    pub(super) fn order(&self, id: OrderId) -> Result<&StoredOrder, Error> {
        let stored = self.orders.get(&id).ok_or(Error::UnknownOrder(id))?;
        if stored.coordination != self.coordination {
            return Err(Error::OtherWay(stored.coordination));
        }
        Ok(stored)
    }

    /// Changes an order of the batch, in memory.
    pub(super) fn change(&mut self, saved: Saved) {
        let Some(stored) = self.orders.get_mut(&saved.id) else {
            return;
        };
        if saved.order != stored.order && saved.order.is_at_rest() {
            came_to_rest(&mut self.tally, stored, saved.order.state);
        }
        stored.order = saved.order;
        stored.was_confirmed = saved.was_confirmed;
        match self.changed.entry(saved.id) {
            Entry::Vacant(entry) => {
                entry.insert(saved);
            }
            Entry::Occupied(mut entry) => {
                let start_deadline = saved.start_deadline || entry.get().start_deadline;
                entry.insert(Saved {
                    start_deadline,
                    ..saved
                });
            }
        }
    }

    /// Adds a message that follows from the change.
    pub(super) fn publish(&mut self, message: outbox::Message) {
        self.messages.push(message);
    }

    /// Writes each changed order once, and the messages. Returns what to count once that is committed.
    pub(super) async fn write(
        self,
        conn: &mut PgConnection,
        waiting: &WaitingSettings,
    ) -> Result<Tally, Error> {
        let changed: Vec<Saved> = self.changed.into_values().collect();
        store::save(conn, &changed, waiting.deadline(), waiting.sweep_after()).await?;
        failpoint!("order.mid_batch");
        outbox::enqueue(conn, &self.messages).await?;
        Ok(self.tally)
    }
}

/// Counts an order's end, and its duration.
fn came_to_rest(tally: &mut Tally, stored: &StoredOrder, state: State) {
    let (end, reason) = match state {
        State::Cancelled(undoing) => {
            let is_settled = [undoing.payment, undoing.inventory].contains(&Some(Undo::Settled));
            let end = if is_settled { "settled" } else { "cancelled" };
            (end, store::reason_name(undoing.reason))
        }
        State::Pending | State::Confirmed { .. } | State::Cancelling(_) => ("confirmed", "none"),
    };
    tally.add(
        counter!("orders_ended_total", "end" => end, "reason" => reason),
        1,
    );
    let took = (OffsetDateTime::now_utc() - stored.created_at).as_seconds_f64();
    tally.record(
        histogram!("order_duration_seconds", "end" => end),
        took.max(0.0),
    );
}
