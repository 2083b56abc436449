//! Messages -> commands. Two queues: what moves orders, and everything there is to hear, for the timeline.

use chassis::{events::decode, tally::Held};
use contracts::{
    Message,
    inventory::{
        InventoryCommitted, InventoryNothingToUndo, InventoryRejected, InventoryReleased,
        InventoryReserved, InventorySettled,
    },
    order::OrderCreated,
    payment::{PaymentDeclined, PaymentNothingToUndo, PaymentRefunded, PaymentSettled},
    value::OrderId,
};
use holdfast::{
    messaging::{Error, Handler, Incoming, Received, Undecodable, parking::Schema},
    outbox::Waker,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    commands::{self, Told},
    config::WaitingSettings,
    domain::{Input, Undo},
    store::{self, Fact},
};

/// The queue of what moves orders.
pub(crate) const CHOREOGRAPHY: &str = "order.choreography";
/// The queue of everything.
pub(crate) const TIMELINE: &str = "order.timeline";

/// What moves orders.
pub(crate) struct Choreography {
    pub(crate) waker: Waker,
    pub(crate) waiting: WaitingSettings,
    /// What the batch in hand will have done.
    pub(crate) held: Held,
}

impl Handler for Choreography {
    type Message = (OrderId, Input);

    fn decode(&self, event: &Incoming) -> Result<Self::Message, Undecodable> {
        input(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Self::Message>],
    ) -> Result<(), Error> {
        let told: Vec<Told<'_>> = batch
            .iter()
            .map(
                |Received {
                     event,
                     message: (order, input),
                     span,
                 }| Told {
                    order: *order,
                    input: *input,
                    event,
                    span,
                },
            )
            .collect();
        for told in &told {
            holdfast::failpoint::inject("order.handle", &told.order.to_string())?;
        }
        self.held
            .hold(commands::apply(conn, &told, &self.waiting).await?);
        Ok(())
    }

    fn committed(&self) {
        self.held.count();
        self.waker.wake();
    }
}

/// What a message means to an order.
fn input(event: &Incoming) -> Result<(OrderId, Input), Undecodable> {
    /// Decodes the payload as `M`; the order is all that we need of it.
    fn order<M: Message>(event: &Incoming) -> Result<OrderId, Undecodable> {
        decode::<M>(event).map(|message| message.order_id())
    }
    Ok(match event.kind.as_str() {
        OrderCreated::TYPE => (order::<OrderCreated>(event)?, Input::Heard),
        PaymentDeclined::TYPE => (order::<PaymentDeclined>(event)?, Input::PaymentDeclined),
        PaymentRefunded::TYPE => (
            order::<PaymentRefunded>(event)?,
            Input::PaymentUndo(Undo::Undone),
        ),
        PaymentNothingToUndo::TYPE => (
            order::<PaymentNothingToUndo>(event)?,
            Input::PaymentUndo(Undo::NothingToUndo),
        ),
        PaymentSettled::TYPE => (
            order::<PaymentSettled>(event)?,
            Input::PaymentUndo(Undo::Settled),
        ),
        InventoryReserved::TYPE => (order::<InventoryReserved>(event)?, Input::Reserved),
        InventoryRejected::TYPE => (order::<InventoryRejected>(event)?, Input::Rejected),
        InventoryCommitted::TYPE => (order::<InventoryCommitted>(event)?, Input::Committed),
        InventoryReleased::TYPE => (
            order::<InventoryReleased>(event)?,
            Input::InventoryUndo(Undo::Undone),
        ),
        InventoryNothingToUndo::TYPE => (
            order::<InventoryNothingToUndo>(event)?,
            Input::InventoryUndo(Undo::NothingToUndo),
        ),
        InventorySettled::TYPE => (
            order::<InventorySettled>(event)?,
            Input::InventoryUndo(Undo::Settled),
        ),
        other => return Err(Undecodable::UnknownType(other.to_owned())),
    })
}

/// Everything there is to hear about orders.
pub(crate) struct Timeline;

impl Handler for Timeline {
    type Message = (Uuid, serde_json::Value);

    /// Takes every type, also of versions that nobody here knows yet: it keeps what was said, and decides nothing by it.
    fn decode(&self, event: &Incoming) -> Result<Self::Message, Undecodable> {
        let malformed = |error: &dyn std::fmt::Display| Undecodable::Malformed(error.to_string());
        let order = event.subject.parse().map_err(|error| malformed(&error))?;
        let data = serde_json::from_slice(&event.data).map_err(|error| malformed(&error))?;
        Ok((order, data))
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Self::Message>],
    ) -> Result<(), Error> {
        let facts: Vec<Fact> = batch
            .iter()
            .map(
                |Received {
                     event,
                     message: (order_id, data),
                     ..
                 }| Fact {
                    order_id: *order_id,
                    message_id: event.id,
                    kind: event.kind.clone(),
                    source: event.source.clone(),
                    causation_id: event.causation_id,
                    traceparent: event.traceparent.clone(),
                    occurred_at: event.time,
                    data: data.clone(),
                },
            )
            .collect();
        Ok(store::record(conn, &facts).await?)
    }

    fn committed(&self) {}
}

/// What the operator's edits are checked against.
pub(crate) struct Messages;

impl Schema for Messages {
    fn check(&self, queue: &str, event: &Incoming) -> Result<(), String> {
        let checked = if queue == TIMELINE {
            Timeline.decode(event).map(|_| ())
        } else {
            input(event).map(|_| ())
        };
        checked.map_err(|error| error.to_string())
    }
}
