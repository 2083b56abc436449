//! What the room overhears. It takes part in nothing: what it cannot read, somebody else parks.

use chassis::events::decode;
use contracts::{
    Message,
    inventory::InventoryCommitted,
    order::{OrderCancelled, OrderCancelling, OrderConfirmed, OrderCreated},
    value::PaymentMethod,
};
use holdfast::messaging::{Incoming, Sighting};
use serde::Serialize;
use time::OffsetDateTime;

use crate::{
    commands::Room,
    domain::{News, Opening, State, Step, plain, trace_id},
};

/// Takes in what the observer sees.
pub(crate) fn take(room: &Room, sighting: Sighting) {
    let (routing_key, event) = match sighting {
        Sighting::Attached => return room.lost_sight(),
        Sighting::Event(routing_key, event) => (routing_key, event),
    };
    let Ok(order) = event.subject.parse() else {
        return;
    };
    let coordination = routing_key.split('.').next().unwrap_or_default();
    let trace_id = event.traceparent.as_deref().and_then(trace_id);
    let step = Step {
        message_id: event.id,
        kind: event.kind.clone(),
        source: plain(&event.source),
        at: event.time.unwrap_or_else(OffsetDateTime::now_utc),
    };
    room.hear(order, coordination, step, trace_id, news(&event));
}

/// What an event says about where its order stands. What cannot be read says nothing.
fn news(event: &Incoming) -> News {
    let read = match event.kind.as_str() {
        OrderCreated::TYPE => decode::<OrderCreated>(event).map(|created| {
            News::Created(Box::new(Opening {
                customer: created.customer.id.to_string(),
                amount: created.amount,
                items: created
                    .lines
                    .iter()
                    .map(|line| u64::from(line.quantity.get()))
                    .sum(),
                payment: match created.payment {
                    PaymentMethod::Wallet => "wallet",
                    PaymentMethod::Card { .. } => "card",
                }
                .to_owned(),
            }))
        }),
        OrderConfirmed::TYPE => decode::<OrderConfirmed>(event).map(|confirmed| News::Moved {
            version: confirmed.order_version,
            state: State::Confirmed,
            reason: None,
        }),
        OrderCancelling::TYPE => decode::<OrderCancelling>(event).map(|cancelling| News::Moved {
            version: cancelling.order_version,
            state: State::Cancelling,
            reason: word(&cancelling.reason),
        }),
        OrderCancelled::TYPE => decode::<OrderCancelled>(event).map(|cancelled| News::Moved {
            version: cancelled.order_version,
            state: State::Cancelled,
            reason: word(&cancelled.reason),
        }),
        InventoryCommitted::TYPE => return News::Committed,
        _ => return News::Other,
    };
    read.unwrap_or(News::Other)
}

/// A value as it is written in JSON: `payment_declined`.
fn word(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value)
        .ok()?
        .as_str()
        .map(str::to_owned)
}
