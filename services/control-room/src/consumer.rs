//! Applies the messages that the room observes. Their consumers handle them, and park those that cannot be read.

use chassis::events::{EXCHANGE, ORCHESTRATION, ORCHESTRATOR, check_source, decode};
use contracts::{
    Message,
    inventory::InventoryCommitted,
    order::{
        CancelReason, CancelRequested, Customer, OrderCancelled, OrderCancelling, OrderCompleted,
        OrderConfirmed, OrderCreated, Saga, StartSaga,
    },
    value::{Money, PaymentMethod, PricedLine},
};
use holdfast::{
    messaging::{Incoming, Sighting, Watch},
    telemetry::TraceContext,
};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    commands::Room,
    domain::{Change, Opening, State, Step, plain},
};

/// The bindings of the room's queue: every event of choreography, every command and reply of orchestration.
pub(crate) const WATCHED: [Watch<'static>; 10] = [
    Watch {
        exchange: EXCHANGE,
        key: "#",
    },
    to("commands.order", ORCHESTRATOR),
    to("commands.orchestrator", "order"),
    to("commands.orchestrator", "payment"),
    to("commands.orchestrator", "inventory"),
    to("commands.orchestrator", "notification"),
    to("replies.order", ORCHESTRATOR),
    to("replies.payment", ORCHESTRATOR),
    to("replies.inventory", ORCHESTRATOR),
    to("replies.notification", ORCHESTRATOR),
];

/// Returns the binding of the messages to a service on an exchange.
const fn to(exchange: &'static str, service: &'static str) -> Watch<'static> {
    Watch {
        exchange,
        key: service,
    }
}

/// Applies a sighting: a message to the board; an attachment makes the board stale.
pub(crate) fn take(room: &Room, sighting: Sighting) {
    let Sighting::Event {
        exchange,
        routing_key,
        event,
    } = sighting
    else {
        return room.lost_sight();
    };
    // A message with a forged source is parked by its consumer.
    if check_source(&event).is_err() {
        return;
    }
    let Ok(order) = event.subject.parse() else {
        return;
    };
    // An event's routing key begins with its coordination; commands and replies belong to orchestration.
    let coordination = if exchange == EXCHANGE {
        routing_key.split('.').next().unwrap_or_default()
    } else {
        ORCHESTRATION
    };
    let trace_id = event.trace.as_ref().map(TraceContext::trace_id);
    let step = Step {
        message_id: event.id,
        cause: event.causation_id,
        kind: event.kind.clone(),
        source: plain(&event.source),
        at: event.time.unwrap_or_else(OffsetDateTime::now_utc),
        detail: serde_json::from_slice(&event.data).unwrap_or_default(),
    };
    let change = change(&event, coordination);
    room.hear(order, coordination, step, trace_id, change);
}

/// Returns the change of its order's state that a message reports; none if the message cannot be decoded.
fn change(event: &Incoming, coordination: &str) -> Change {
    let read = match event.kind.as_str() {
        OrderCreated::TYPE => decode(event).map(|created: OrderCreated| {
            let OrderCreated {
                customer,
                lines,
                amount,
                payment,
                ..
            } = created;
            opening(&customer, &lines, amount, &payment)
        }),
        StartSaga::TYPE => decode(event).map(|start: StartSaga| match start.saga {
            Saga::PlaceOrder => {
                opening(&start.customer, &start.lines, start.amount, &start.payment)
            }
            // Only its customer can cancel a confirmed order.
            Saga::UndoOrder => Change::Moved {
                version: start.order_version,
                state: State::Cancelling,
                reason: word(&CancelReason::Customer),
            },
        }),
        OrderConfirmed::TYPE => decode(event).map(|confirmed: OrderConfirmed| Change::Moved {
            version: confirmed.order_version,
            state: State::Confirmed,
            reason: None,
        }),
        OrderCancelling::TYPE => decode(event).map(|cancelling: OrderCancelling| Change::Moved {
            version: cancelling.order_version,
            state: State::Cancelling,
            reason: word(&cancelling.reason),
        }),
        CancelRequested::TYPE => decode(event).map(|requested: CancelRequested| Change::Moved {
            version: requested.order_version,
            state: State::Cancelling,
            reason: word(&requested.reason),
        }),
        OrderCancelled::TYPE => decode(event).map(|cancelled: OrderCancelled| Change::Moved {
            version: cancelled.order_version,
            state: State::Cancelled,
            reason: word(&cancelled.reason),
        }),
        OrderCompleted::TYPE => return Change::Committed,
        // It brings a choreographed order to rest. An orchestrated one goes on to `order.completed`.
        InventoryCommitted::TYPE if coordination != ORCHESTRATION => return Change::Committed,
        _ => return Change::Other,
    };
    read.unwrap_or(Change::Other)
}

fn opening(
    customer: &Customer,
    lines: &[PricedLine],
    amount: Money,
    payment: &PaymentMethod,
) -> Change {
    let payment = match payment {
        PaymentMethod::Wallet => "wallet",
        PaymentMethod::Card { .. } => "card",
    };
    Change::Created(Box::new(Opening {
        customer: customer.id.to_string(),
        amount,
        items: lines
            .iter()
            .map(|line| u64::from(line.quantity.get()))
            .sum(),
        payment: payment.to_owned(),
    }))
}

/// Returns a value as JSON writes it, such as `payment_declined`; `None` if it is not a string there.
fn word(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value)
        .ok()?
        .as_str()
        .map(str::to_owned)
}
