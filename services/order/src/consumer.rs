//! Messages -> commands. Three queues: the events that move choreographed orders, the orchestrator's commands, and
//! every message about orders, for the timeline.

use chassis::{
    events::{check_source, decode, key_of},
    tally::Tally,
};
use contracts::{
    Message,
    inventory::{
        InventoryCommitted, InventoryNothingToUndo, InventoryRejected, InventoryReleased,
        InventoryReserved, InventorySettled,
    },
    orchestrator::{CancelOrder, CompleteOrder, ConfirmOrder, Undoing},
    order::OrderCreated,
    payment::{PaymentDeclined, PaymentNothingToUndo, PaymentRefunded, PaymentSettled},
    value::OrderId,
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable},
    outbox::Waker,
    telemetry::TraceContext,
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::{
    commands,
    config::WaitingSettings,
    domain::{Input, Undo, orchestrated},
    store::{self, Fact},
};

/// The queue of the events that move choreographed orders.
pub(crate) const CHOREOGRAPHY: &str = "order.choreography";
/// The queue of the orchestrator's commands.
pub(crate) const COMMANDS: &str = "order.commands";
/// The queue of every message about orders.
pub(crate) const TIMELINE: &str = "order.timeline";

/// The handler of the events that move choreographed orders.
pub(crate) struct Choreography {
    pub(crate) waker: Waker,
    pub(crate) waiting: WaitingSettings,
}

impl Handler for Choreography {
    type Command = commands::Event;
    type Effect = Tally;

    fn decode(&self, event: &Incoming) -> Result<commands::Event, Undecodable> {
        let (order, input) = input(event)?;
        Ok(commands::Event { order, input })
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<commands::Event>],
    ) -> Result<Tally, Error> {
        for message in batch {
            failpoint::inject("order.handle", &message.command.order.to_string())?;
        }
        Ok(commands::apply_events(conn, batch, &self.waiting).await?)
    }

    fn committed(&self, effect: Option<Tally>) {
        if let Some(tally) = effect {
            tally.count();
        }
        self.waker.wake();
    }
}

/// Returns the order that an event is about, and the event's meaning to it.
fn input(event: &Incoming) -> Result<(OrderId, Input), Undecodable> {
    /// Decodes the payload as `M`, of which only the order is needed.
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

/// The handler of the orchestrator's commands.
pub(crate) struct Commands {
    pub(crate) waker: Waker,
    pub(crate) waiting: WaitingSettings,
}

impl Handler for Commands {
    type Command = commands::Command;
    type Effect = Tally;

    fn decode(&self, event: &Incoming) -> Result<commands::Command, Undecodable> {
        command(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<commands::Command>],
    ) -> Result<Tally, Error> {
        for message in batch {
            failpoint::inject("order.handle", &message.command.order.to_string())?;
        }
        Ok(commands::apply_commands(conn, batch, &self.waiting).await?)
    }

    fn committed(&self, effect: Option<Tally>) {
        if let Some(tally) = effect {
            tally.count();
        }
        self.waker.wake();
    }
}

/// Returns the command in a message.
fn command(event: &Incoming) -> Result<commands::Command, Undecodable> {
    let undo = |undoing| match undoing {
        Undoing::Undone => Undo::Undone,
        Undoing::NothingToUndo => Undo::NothingToUndo,
        Undoing::Settled => Undo::Settled,
    };
    let (order, input) = match event.kind.as_str() {
        ConfirmOrder::TYPE => {
            let confirm: ConfirmOrder = decode(event)?;
            (confirm.order_id, orchestrated::Input::Confirm)
        }
        CompleteOrder::TYPE => {
            let complete: CompleteOrder = decode(event)?;
            (complete.order_id, orchestrated::Input::Complete)
        }
        CancelOrder::TYPE => {
            let cancel: CancelOrder = decode(event)?;
            let input = orchestrated::Input::Cancel {
                reason: cancel.reason,
                payment: undo(cancel.payment),
                inventory: undo(cancel.inventory),
            };
            (cancel.order_id, input)
        }
        other => return Err(Undecodable::UnknownType(other.to_owned())),
    };
    let key = key_of(event)?;
    Ok(commands::Command { order, input, key })
}

/// The handler that records every message about orders.
pub(crate) struct Timeline;

impl Handler for Timeline {
    type Command = (Uuid, serde_json::Value);
    type Effect = ();

    /// Accepts every type, also in versions that this service does not know yet: it records the message, and decides
    /// nothing by it. A message in another service's name is rejected, because customers read the timeline.
    fn decode(&self, event: &Incoming) -> Result<Self::Command, Undecodable> {
        check_source(event)?;
        let malformed = |error: &dyn std::fmt::Display| Undecodable::Malformed(error.to_string());
        let order = event.subject.parse().map_err(|error| malformed(&error))?;
        let data = serde_json::from_slice(&event.data).map_err(|error| malformed(&error))?;
        Ok((order, data))
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Self::Command>],
    ) -> Result<(), Error> {
        let facts: Vec<Fact> = batch
            .iter()
            .map(
                |Received {
                     event,
                     command: (order_id, data),
                     ..
                 }| Fact {
                    order_id: *order_id,
                    message_id: event.id,
                    kind: event.kind.clone(),
                    source: event.source.clone(),
                    causation_id: event.causation_id,
                    traceparent: event.trace.as_ref().map(TraceContext::traceparent),
                    occurred_at: event.time,
                    data: data.clone(),
                },
            )
            .collect();
        Ok(store::record(conn, &facts).await?)
    }

    fn committed(&self, _: Option<()>) {}
}
