//! The bodies of the API's responses.

use chassis::http::page_of;
use contracts::{
    order::CancelReason,
    value::{CustomerId, Money, OrderId, PaymentMethod, PricedLine},
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{self, State},
    store::{self, Entry, OperatorAction, StoredOrder},
};

/// The way in which the services agree on an order's end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Coordination {
    /// Each service reacts to the events of the others.
    #[default]
    Choreography,
    /// A saga orchestrator sends commands to each service in turn.
    Orchestration,
}

impl From<Coordination> for domain::Coordination {
    fn from(coordination: Coordination) -> Self {
        match coordination {
            Coordination::Choreography => Self::Choreography,
            Coordination::Orchestration => Self::Orchestration,
        }
    }
}

impl From<domain::Coordination> for Coordination {
    fn from(coordination: domain::Coordination) -> Self {
        match coordination {
            domain::Coordination::Choreography => Self::Choreography,
            domain::Coordination::Orchestration => Self::Orchestration,
        }
    }
}

/// An order, as its customer sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderView {
    id: OrderId,
    customer: CustomerId,
    /// `choreography`: each service reacts to the events of the others. `orchestration`: a saga orchestrator
    /// sends commands to each service in turn.
    coordination: Coordination,
    state: StateName,
    /// The reason of the cancel, if the order is or was being undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<CancelReason>,
    /// Set if nothing more will happen to the order by itself: it is confirmed and committed, or cancelled and undone.
    at_rest: bool,
    /// The version, which counts the changes of the state.
    version: u32,
    lines: Vec<PricedLine>,
    amount: Money,
    /// The time of the prices, if inventory was unavailable when the order was placed.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    prices_as_of: Option<OffsetDateTime>,
    payment: PaymentMethod,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum StateName {
    Pending,
    Confirmed,
    Cancelling,
    Cancelled,
}

impl From<&StoredOrder> for OrderView {
    fn from(stored: &StoredOrder) -> Self {
        let (state, reason) = match stored.order.state {
            State::Pending => (StateName::Pending, None),
            State::Confirmed { .. } => (StateName::Confirmed, None),
            State::Cancelling(undoing) => (StateName::Cancelling, Some(undoing.reason)),
            State::Cancelled(undoing) => (StateName::Cancelled, Some(undoing.reason)),
        };
        Self {
            id: stored.new.id,
            customer: stored.new.customer.id.clone(),
            coordination: stored.coordination.into(),
            state,
            reason,
            at_rest: stored.order.is_at_rest(),
            version: stored.order.version,
            lines: stored.new.lines.clone(),
            amount: stored.new.amount,
            prices_as_of: stored.new.prices_as_of,
            payment: stored.new.payment.clone(),
            created_at: stored.created_at,
            updated_at: stored.updated_at,
        }
    }
}

/// A page of orders, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrderPage {
    orders: Vec<OrderView>,
    /// The value of `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<OrderId>,
}

impl OrderPage {
    /// Builds a page from up to one order more than `limit`, which tells whether there is a next page.
    pub(super) fn new(stored: Vec<StoredOrder>, limit: i64) -> Self {
        let (stored, next) = page_of(stored, limit, |last| last.new.id);
        Self {
            orders: stored.iter().map(OrderView::from).collect(),
            next,
        }
    }
}

/// A message about an order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryView {
    #[serde(rename = "type")]
    kind: String,
    /// The service that published the message.
    source: String,
    message_id: Uuid,
    /// The message that led to this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<Uuid>,
    /// The trace context of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The time of the message, by its publisher's clock.
    #[serde(with = "time::serde::rfc3339::option")]
    occurred_at: Option<OffsetDateTime>,
    /// The time at which the order service recorded the message.
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
    /// The payload of the message; for operators only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<serde_json::Value>,
}

impl EntryView {
    pub(super) fn new(entry: Entry, in_full: bool) -> Self {
        Self {
            kind: entry.kind,
            source: entry.source,
            message_id: entry.message_id,
            causation_id: entry.causation_id,
            traceparent: entry.traceparent,
            occurred_at: entry.occurred_at,
            recorded_at: entry.recorded_at,
            data: in_full.then_some(entry.data),
        }
    }
}

/// An order, with what an operator needs to know.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperatorView {
    #[serde(flatten)]
    order: OrderView,
    /// The parties that must answer: `heard`, `payment`, `inventory`; for an orchestrated order, `orchestrator`.
    awaits: Vec<&'static str>,
    /// The answer of payment, if it has come: undone, nothing_to_undo, settled.
    payment_answer: Option<&'static str>,
    /// The answer of inventory, if it has come: undone, nothing_to_undo, settled.
    inventory_answer: Option<&'static str>,
    /// The number of sweeps that have resent messages since the last change.
    sweeps: i32,
    /// The time since which the order waits for an operator.
    #[serde(with = "time::serde::rfc3339::option")]
    stuck_since: Option<OffsetDateTime>,
    /// The time at which the order is cancelled, if it is still pending.
    #[serde(with = "time::serde::rfc3339::option")]
    deadline_at: Option<OffsetDateTime>,
    /// The operator actions on the order.
    #[serde(rename = "deeds")]
    actions: Vec<OperatorActionView>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeedView)]
struct OperatorActionView {
    /// The action: cancelled, resumed or settled.
    action: String,
    operator: String,
    note: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl OperatorView {
    pub(super) fn new(stored: &StoredOrder, actions: Vec<OperatorAction>) -> Self {
        let (payment, inventory) = match stored.order.state {
            State::Cancelling(undoing) | State::Cancelled(undoing) => {
                (undoing.payment, undoing.inventory)
            }
            State::Pending | State::Confirmed { .. } => (None, None),
        };
        let actions = actions
            .into_iter()
            .map(|action| OperatorActionView {
                action: action.action,
                operator: action.operator,
                note: action.note,
                at: action.at,
            })
            .collect();
        Self {
            order: OrderView::from(stored),
            awaits: awaits(stored),
            payment_answer: payment.map(store::undo_name),
            inventory_answer: inventory.map(store::undo_name),
            sweeps: stored.sweeps,
            stuck_since: stored.stuck_since,
            deadline_at: stored.deadline_at,
            actions,
        }
    }
}

/// Returns the parties that have to move the order on.
fn awaits(stored: &StoredOrder) -> Vec<&'static str> {
    use domain::Coordination as C;

    match (stored.coordination, stored.order.state) {
        (_, State::Confirmed { committed: true } | State::Cancelled(_)) => Vec::new(),
        (C::Orchestration, _) => vec!["orchestrator"],
        (C::Choreography, State::Pending) if stored.deadline_at.is_none() => vec!["heard"],
        (C::Choreography, State::Pending) => vec!["payment", "inventory"],
        (C::Choreography, State::Confirmed { committed: false }) => vec!["inventory"],
        (C::Choreography, State::Cancelling(undoing)) => [
            ("payment", undoing.payment),
            ("inventory", undoing.inventory),
        ]
        .into_iter()
        .filter_map(|(name, answer)| answer.is_none().then_some(name))
        .collect(),
    }
}
