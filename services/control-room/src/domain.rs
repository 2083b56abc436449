//! The board: the last few hundred orders, as far as the room knows them. No I/O.
//!
//! The room observes messages late, and may miss some. So nothing goes backwards (a state of an older version is
//! ignored, a step is recognised by its message id), and [`Board::wants`] returns the orders to read from the order
//! service.

mod order;
mod step;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use order::Order;
pub use order::{Change, Entry, Opening, OrderLine, State, View, trace_id};
pub use step::{Ask, Detail, Said, Step, StepLine, plain};
use time::OffsetDateTime;
use uuid::Uuid;

/// The most orders that are kept: those with the highest ids, which are the newest because ids are ordered by time.
const ORDERS: usize = 300;
/// The most unknown orders that are remembered until they are read from the order service.
const MISSING: usize = 100;

/// The last few hundred orders.
#[derive(Default)]
pub struct Board {
    /// Ordered by id, and so by time.
    orders: BTreeMap<Uuid, Order>,
    /// Orders that a message named, but whose first message was missed.
    missing: BTreeSet<Uuid>,
    stuck: BTreeSet<Uuid>,
    /// Orders that have changed since the last [`Board::take_changed`].
    changed: BTreeSet<Uuid>,
}

impl Board {
    /// Applies a message.
    pub fn hear(
        &mut self,
        id: Uuid,
        coordination: &str,
        step: Step,
        trace_id: Option<String>,
        change: Change,
        now: OffsetDateTime,
    ) {
        if let Change::Created(opening) = &change {
            self.missing.remove(&id);
            self.orders
                .entry(id)
                .or_insert_with(|| Order::opened(opening, coordination, step.at, now));
        }
        let Some(order) = self.orders.get_mut(&id) else {
            // An order that is older than all that are kept would be dropped at once.
            let too_old = self.orders.len() == ORDERS
                && self
                    .orders
                    .first_key_value()
                    .is_some_and(|(first, _)| id < *first);
            if !too_old && self.missing.len() < MISSING {
                self.missing.insert(id);
            }
            return;
        };
        order.touched = now;
        if order.trace_id.is_none() {
            order.trace_id = trace_id;
        }
        order.step(step);
        match change {
            Change::Moved {
                version,
                state,
                reason,
            } => order.to(version, state, reason),
            Change::Committed => order.committed = true,
            Change::Created(_) | Change::Other => {}
        }
        self.changed.insert(id);
        self.bound();
    }

    /// Applies the order service's view of an order, and its timeline.
    pub fn read(&mut self, view: View, timeline: Vec<Entry>, now: OffsetDateTime) {
        let id = view.id;
        self.missing.remove(&id);
        let order = self.orders.entry(id).or_insert_with(|| Order {
            customer: view.customer,
            coordination: view.coordination,
            state: view.state,
            version: 0,
            reason: None,
            committed: false,
            amount: view.amount,
            items: view.lines.iter().map(|line| line.quantity).sum(),
            payment: view.payment.method,
            created_at: view.created_at,
            updated_at: view.updated_at,
            trace_id: None,
            steps: Vec::new(),
            touched: now,
        });
        order.touched = now;
        let before = order.line(id, false);
        for entry in timeline {
            if order.trace_id.is_none() {
                order.trace_id = entry.traceparent.as_deref().and_then(trace_id);
            }
            order.step(entry.into());
        }
        order.to(view.version, view.state, view.reason);
        if view.state == State::Confirmed && view.at_rest {
            order.committed = true;
        }
        if order.line(id, false) != before || order.steps.is_empty() {
            self.changed.insert(id);
        }
        self.bound();
    }

    /// Returns the orders to read from the order service, at most `most`: the unknown ones, then those that are in
    /// flight or have no steps, and that neither a message nor a request has touched for longer than `patience`. Each
    /// group is ordered newest first.
    pub fn wants(&self, now: OffsetDateTime, patience: Duration, most: usize) -> Vec<Uuid> {
        let quiet = self.orders.iter().rev().filter(|(_, order)| {
            (!order.is_at_rest() || order.steps.is_empty()) && now - order.touched > patience
        });
        let missing = self.missing.iter().rev().copied();
        missing.chain(quiet.map(|(id, _)| *id)).take(most).collect()
    }

    /// Records that an order could not be read: a known order is read again later, an unknown one is forgotten.
    pub fn asked(&mut self, id: Uuid, now: OffsetDateTime) {
        self.missing.remove(&id);
        if let Some(order) = self.orders.get_mut(&id) {
            order.touched = now;
        }
    }

    /// Replaces the set of stuck orders.
    pub fn stuck(&mut self, stuck: BTreeSet<Uuid>) {
        self.changed
            .extend(self.stuck.symmetric_difference(&stuck).copied());
        self.stuck = stuck;
    }

    /// Returns at most `most` orders, newest first.
    pub fn newest(&self, most: usize) -> Vec<OrderLine> {
        let newest = self.orders.iter().rev().take(most);
        newest
            .map(|(id, order)| order.line(*id, self.stuck.contains(id)))
            .collect()
    }

    /// Returns those of the `most` newest orders that have changed since the last call, oldest first.
    pub fn take_changed(&mut self, most: usize) -> Vec<OrderLine> {
        let changed = std::mem::take(&mut self.changed);
        if changed.is_empty() {
            return Vec::new();
        }
        let mut lines: Vec<OrderLine> = self
            .orders
            .iter()
            .rev()
            .take(most)
            .filter(|(id, _)| changed.contains(*id))
            .map(|(id, order)| order.line(*id, self.stuck.contains(id)))
            .collect();
        lines.reverse();
        lines
    }

    fn bound(&mut self) {
        while self.orders.len() > ORDERS {
            if let Some((id, _)) = self.orders.pop_first() {
                self.changed.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests;
