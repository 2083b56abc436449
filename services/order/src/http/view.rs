//! What the API answers with.

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
    store::{self, Deed, Entry, StoredOrder},
};

/// How the services agree on an order's end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Coordination {
    /// Each service reacts to the events of the others.
    #[default]
    Choreography,
    /// A saga orchestrator asks each service in turn.
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

/// An order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrderView {
    id: OrderId,
    customer: CustomerId,
    /// `choreography`: each service reacts to the events of the others. `orchestration`: a saga orchestrator asks each
    /// service in turn.
    coordination: Coordination,
    state: StateName,
    /// Why it is, or was, undone.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<CancelReason>,
    /// Whether nothing more will happen to it by itself: confirmed and committed, or cancelled and undone.
    at_rest: bool,
    /// Counts the changes of its state.
    version: u32,
    lines: Vec<PricedLine>,
    amount: Money,
    /// Inventory could not be asked when it was placed: the prices are those of this time.
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
    /// What to send as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<OrderId>,
}

impl OrderPage {
    /// From one order more than the page has, which tells whether there is a next one.
    pub(super) fn new(stored: Vec<StoredOrder>, limit: i64) -> Self {
        let (stored, next) = page_of(stored, limit, |last| last.new.id);
        Self {
            orders: stored.iter().map(OrderView::from).collect(),
            next,
        }
    }
}

/// Something that happened to an order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EntryView {
    #[serde(rename = "type")]
    kind: String,
    /// Which service said it.
    source: String,
    message_id: Uuid,
    /// The message that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<Uuid>,
    /// The trace that it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// When it was said, by the clock of the service that said it.
    #[serde(with = "time::serde::rfc3339::option")]
    occurred_at: Option<OffsetDateTime>,
    /// When it was heard here.
    #[serde(with = "time::serde::rfc3339")]
    recorded_at: OffsetDateTime,
    /// What was said in full; for operators.
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
    /// What is awaited: `heard`, `payment`, `inventory`; or, of an orchestrated order, `orchestrator`.
    awaits: Vec<&'static str>,
    /// What payment answered, if it did: undone, nothing_to_undo, settled.
    payment_answer: Option<&'static str>,
    /// What inventory answered, if it did: undone, nothing_to_undo, settled.
    inventory_answer: Option<&'static str>,
    /// How often it was asked for again.
    sweeps: i32,
    /// Since when it waits for an operator.
    #[serde(with = "time::serde::rfc3339::option")]
    stuck_since: Option<OffsetDateTime>,
    /// When it is given up, while it is pending.
    #[serde(with = "time::serde::rfc3339::option")]
    deadline_at: Option<OffsetDateTime>,
    /// What operators did to it.
    deeds: Vec<DeedView>,
}

#[derive(Debug, Serialize, ToSchema)]
struct DeedView {
    /// cancelled, resumed or settled.
    action: String,
    operator: String,
    note: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl OperatorView {
    pub(super) fn new(stored: &StoredOrder, deeds: Vec<Deed>) -> Self {
        let (payment, inventory) = match stored.order.state {
            State::Cancelling(undoing) | State::Cancelled(undoing) => {
                (undoing.payment, undoing.inventory)
            }
            State::Pending | State::Confirmed { .. } => (None, None),
        };
        let deeds = deeds
            .into_iter()
            .map(|deed| DeedView {
                action: deed.action,
                operator: deed.operator,
                note: deed.note,
                at: deed.at,
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
            deeds,
        }
    }
}

/// Who is to move the order on.
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
