//! One order: as messages and the order service describe it, as the board keeps it, and as the page shows it.

use contracts::value::Money;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::step::{Detail, Step, StepLine, lines, plain};

/// The most messages that are kept of an order. Without a bound, resends would grow an order that never comes to rest.
pub(super) const STEPS: usize = 60;

/// The state of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Pending,
    Confirmed,
    Cancelling,
    Cancelled,
}

/// The change of an order's state that a message reports.
#[derive(Clone, Debug)]
pub enum Change {
    Created(Box<Opening>),
    /// The order is confirmed, cancelling or cancelled, as of `version`.
    Moved {
        version: u32,
        state: State,
        reason: Option<String>,
    },
    /// The goods of a confirmed order are sold, which is its last step: it is at rest.
    Committed,
    /// Anything that leaves the state as it is.
    Other,
}

/// The content of an order, from its first message.
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
    pub(super) customer: String,
    pub(super) coordination: String,
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) at_rest: bool,
    pub(super) version: u32,
    pub(super) lines: Vec<ViewLine>,
    pub(super) amount: Money,
    pub(super) payment: ViewPayment,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) updated_at: OffsetDateTime,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ViewLine {
    pub(super) quantity: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ViewPayment {
    pub(super) method: String,
}

/// An entry of an order's timeline, as the order service shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    pub(super) message_id: Uuid,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) source: String,
    #[serde(default)]
    pub(super) causation_id: Option<Uuid>,
    #[serde(default)]
    pub(super) traceparent: Option<String>,
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub(super) occurred_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) recorded_at: OffsetDateTime,
    #[serde(default)]
    pub(super) data: Detail,
}

impl From<Entry> for Step {
    fn from(entry: Entry) -> Self {
        Self {
            message_id: entry.message_id,
            cause: entry.causation_id,
            kind: entry.kind,
            source: plain(&entry.source),
            at: entry.occurred_at.unwrap_or(entry.recorded_at),
            detail: entry.data,
        }
    }
}

/// An order, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OrderLine {
    pub id: Uuid,
    pub(super) customer: String,
    pub(super) coordination: String,
    pub state: State,
    pub(super) reason: Option<String>,
    pub at_rest: bool,
    pub(super) stuck: bool,
    pub(super) amount: Money,
    /// The units of all lines together.
    pub(super) items: u64,
    pub(super) payment: String,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    pub(super) updated_at: OffsetDateTime,
    pub(super) trace_id: Option<String>,
    pub steps: Vec<StepLine>,
}

pub(super) struct Order {
    pub(super) customer: String,
    pub(super) coordination: String,
    pub(super) state: State,
    pub(super) version: u32,
    pub(super) reason: Option<String>,
    pub(super) committed: bool,
    pub(super) amount: Money,
    pub(super) items: u64,
    pub(super) payment: String,
    pub(super) created_at: OffsetDateTime,
    pub(super) updated_at: OffsetDateTime,
    pub(super) trace_id: Option<String>,
    /// The messages, each once, ordered by time.
    pub(super) steps: Vec<Step>,
    /// The time of the last message about it, or request for it, on the room's clock.
    pub(super) touched: OffsetDateTime,
}

impl Order {
    /// Returns an order as its first message describes it.
    pub(super) fn opened(
        opening: &Opening,
        coordination: &str,
        at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            customer: opening.customer.clone(),
            coordination: coordination.to_owned(),
            state: State::Pending,
            version: 1,
            reason: None,
            committed: false,
            amount: opening.amount,
            items: opening.items,
            payment: opening.payment.clone(),
            created_at: at,
            updated_at: at,
            trace_id: None,
            steps: Vec::new(),
            touched: now,
        }
    }

    pub(super) fn is_at_rest(&self) -> bool {
        match self.state {
            State::Confirmed => self.committed,
            State::Cancelled => true,
            State::Pending | State::Cancelling => false,
        }
    }

    pub(super) fn step(&mut self, step: Step) {
        let known = self.steps.iter().any(|s| s.message_id == step.message_id);
        if known || self.steps.len() == STEPS {
            return;
        }
        self.updated_at = self.updated_at.max(step.at);
        self.steps.push(step);
        self.steps.sort_by_key(|step| step.at);
    }

    pub(super) fn to(&mut self, version: u32, state: State, reason: Option<String>) {
        if version >= self.version {
            (self.version, self.state, self.reason) = (version, state, reason);
        }
    }

    pub(super) fn line(&self, id: Uuid, stuck: bool) -> OrderLine {
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
            steps: lines(&self.steps, self.created_at),
        }
    }
}

/// Returns the trace id of a W3C `traceparent`; `None` if that is malformed.
pub fn trace_id(traceparent: &str) -> Option<String> {
    let id = traceparent.split('-').nth(1)?;
    (id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}
