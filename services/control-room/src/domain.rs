//! The board: the last few hundred orders, as the room knows them. Pure.
//!
//! Everything here may be late or missing: the room overhears events, and may miss some. So nothing goes backwards (a
//! state of an older version is ignored, a step is known by its message id), and [`Board::wants`] names the orders of
//! which the order service should be asked.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use contracts::value::Money;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// Orders that are kept, in number: those of the newest ids, which are in the order of their time.
const ORDERS: usize = 300;
/// Steps that are kept of each order, in number. An order that is asked for again and again has no end of them.
const STEPS: usize = 60;
/// Unknown orders that are remembered until they are asked for, in number.
const MISSING: usize = 100;

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Pending,
    Confirmed,
    Cancelling,
    Cancelled,
}

/// Something that happened to an order.
#[derive(Clone, Debug)]
pub struct Step {
    pub message_id: Uuid,
    pub kind: String,
    pub source: String,
    pub at: OffsetDateTime,
}

/// What an event says about where an order stands.
#[derive(Clone, Debug)]
pub enum News {
    Created(Box<Opening>),
    /// Confirmed, cancelling or cancelled.
    Moved {
        version: u32,
        state: State,
        reason: Option<String>,
    },
    /// The goods of a confirmed order are sold: it is at rest.
    Committed,
    /// Something that leaves it where it is.
    Other,
}

/// How an order began.
#[derive(Clone, Debug)]
pub struct Opening {
    pub customer: String,
    pub amount: Money,
    pub items: u64,
    pub payment: String,
}

/// An order, as the order service shows it to operators.
#[derive(Clone, Debug, Deserialize)]
pub struct View {
    pub id: Uuid,
    customer: String,
    coordination: String,
    state: State,
    reason: Option<String>,
    at_rest: bool,
    version: u32,
    lines: Vec<ViewLine>,
    amount: Money,
    payment: ViewPayment,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

#[derive(Clone, Debug, Deserialize)]
struct ViewLine {
    quantity: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct ViewPayment {
    method: String,
}

/// An entry of an order's timeline, as the order service shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    message_id: Uuid,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    #[serde(default)]
    traceparent: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    occurred_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
}

/// An order, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrderLine {
    pub id: Uuid,
    customer: String,
    coordination: String,
    pub state: State,
    reason: Option<String>,
    pub at_rest: bool,
    stuck: bool,
    amount: Money,
    /// Units, of all products.
    items: u64,
    payment: String,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
    trace_id: Option<String>,
    pub steps: Vec<StepLine>,
}

/// A step, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepLine {
    #[serde(rename = "type")]
    pub kind: String,
    pub source: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Since the order began, in milliseconds.
    ms: i64,
}

struct Order {
    customer: String,
    coordination: String,
    state: State,
    version: u32,
    reason: Option<String>,
    committed: bool,
    amount: Money,
    items: u64,
    payment: String,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    trace_id: Option<String>,
    /// Each message once, in the order of their times.
    steps: Vec<Step>,
    /// When something of it was last heard, or asked for; on the room's clock.
    touched: OffsetDateTime,
}

impl Order {
    fn is_at_rest(&self) -> bool {
        match self.state {
            State::Confirmed => self.committed,
            State::Cancelled => true,
            State::Pending | State::Cancelling => false,
        }
    }

    fn step(&mut self, step: Step) {
        let known = self.steps.iter().any(|s| s.message_id == step.message_id);
        if known || self.steps.len() == STEPS {
            return;
        }
        self.updated_at = self.updated_at.max(step.at);
        self.steps.push(step);
        self.steps.sort_by_key(|step| step.at);
    }

    fn to(&mut self, version: u32, state: State, reason: Option<String>) {
        if version >= self.version {
            (self.version, self.state, self.reason) = (version, state, reason);
        }
    }

    fn line(&self, id: Uuid, stuck: bool) -> OrderLine {
        let since = |at: OffsetDateTime| {
            let ms = (at - self.created_at).whole_milliseconds().max(0);
            i64::try_from(ms).unwrap_or(i64::MAX)
        };
        OrderLine {
            id,
            customer: self.customer.clone(),
            coordination: self.coordination.clone(),
            state: self.state,
            reason: self.reason.clone(),
            at_rest: self.is_at_rest(),
            stuck,
            amount: self.amount,
            items: self.items,
            payment: self.payment.clone(),
            created_at: self.created_at,
            updated_at: self.updated_at,
            trace_id: self.trace_id.clone(),
            steps: self
                .steps
                .iter()
                .map(|step| StepLine {
                    kind: step.kind.clone(),
                    source: step.source.clone(),
                    at: step.at,
                    ms: since(step.at),
                })
                .collect(),
        }
    }
}

/// The last few hundred orders.
#[derive(Default)]
pub struct Board {
    /// By id, so by time.
    orders: BTreeMap<Uuid, Order>,
    /// Heard of, but not from their beginning.
    missing: BTreeSet<Uuid>,
    stuck: BTreeSet<Uuid>,
    /// Changed since [`Board::take_changed`].
    changed: BTreeSet<Uuid>,
}

impl Board {
    /// Takes an event in.
    pub fn hear(
        &mut self,
        id: Uuid,
        coordination: &str,
        step: Step,
        trace_id: Option<String>,
        news: News,
        now: OffsetDateTime,
    ) {
        if let News::Created(opening) = &news {
            let Opening {
                customer,
                amount,
                items,
                payment,
            } = (**opening).clone();
            self.missing.remove(&id);
            self.orders.entry(id).or_insert(Order {
                customer,
                coordination: coordination.to_owned(),
                state: State::Pending,
                version: 1,
                reason: None,
                committed: false,
                amount,
                items,
                payment,
                created_at: step.at,
                updated_at: step.at,
                trace_id: None,
                steps: Vec::new(),
                touched: now,
            });
        }
        let Some(order) = self.orders.get_mut(&id) else {
            // Older than all that are kept: nobody will see it.
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
        match news {
            News::Moved {
                version,
                state,
                reason,
            } => order.to(version, state, reason),
            News::Committed => order.committed = true,
            News::Created(_) | News::Other => {}
        }
        self.changed.insert(id);
        self.bound();
    }

    /// Takes in what the order service says of an order.
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
            order.step(Step {
                message_id: entry.message_id,
                kind: entry.kind,
                source: plain(&entry.source),
                at: entry.occurred_at.unwrap_or(entry.recorded_at),
            });
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

    /// Orders of which the order service should be asked: unknown ones, and those in flight of which nothing was heard
    /// for a while. Newest first.
    pub fn wants(&self, now: OffsetDateTime, patience: Duration, most: usize) -> Vec<Uuid> {
        let quiet = self.orders.iter().rev().filter(|(_, order)| {
            (!order.is_at_rest() || order.steps.is_empty()) && now - order.touched > patience
        });
        let missing = self.missing.iter().rev().copied();
        missing.chain(quiet.map(|(id, _)| *id)).take(most).collect()
    }

    /// It was asked for, in vain: it is asked for again later, or not at all if it is unknown.
    pub fn asked(&mut self, id: Uuid, now: OffsetDateTime) {
        self.missing.remove(&id);
        if let Some(order) = self.orders.get_mut(&id) {
            order.touched = now;
        }
    }

    /// These are stuck, and no others.
    pub fn stuck(&mut self, stuck: BTreeSet<Uuid>) {
        self.changed
            .extend(self.stuck.symmetric_difference(&stuck).copied());
        self.stuck = stuck;
    }

    /// The newest orders, newest first.
    pub fn newest(&self, most: usize) -> Vec<OrderLine> {
        let newest = self.orders.iter().rev().take(most);
        newest
            .map(|(id, order)| order.line(*id, self.stuck.contains(id)))
            .collect()
    }

    /// Those of the newest that have changed since the last time, oldest first.
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

/// The trace id of a W3C `traceparent`.
pub fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

/// `/order` -> `order`
pub fn plain(source: &str) -> String {
    source.trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests;
