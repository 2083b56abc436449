//! Decodes messages into commands, and applies them in batches.

use chassis::{
    events::{decode, key_of},
    tally::Tally,
};
use contracts::{
    Message,
    orchestrator::{CommitInventory, ReleaseInventory, ReserveInventory, SettleInventory},
    order::{OrderCancelling, OrderConfirmed, OrderSettling, Participant},
    payment::PaymentCompleted,
    value::{OrderLine, PricedLine},
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable},
    outbox::Waker,
};
use sqlx::PgConnection;

use crate::commands::{self, Command, Request};

/// The queue of the events that reservations react to.
pub(crate) const CHOREOGRAPHY: &str = "inventory.choreography";
/// The queue of the orchestrator's commands.
pub(crate) const COMMANDS: &str = "inventory.commands";

/// The handler of one of the two queues.
pub(crate) struct Consumer {
    /// The queue's name, which decides the types that it takes and where they are answered.
    pub(crate) queue: &'static str,
    /// The waker of the outbox's relay.
    pub(crate) waker: Waker,
}

impl Handler for Consumer {
    type Command = Command;
    type Effect = Tally;

    fn decode(&self, event: &Incoming) -> Result<Command, Undecodable> {
        decoded(self.queue, event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Command>],
    ) -> Result<Tally, Error> {
        for message in batch {
            failpoint::inject("inventory.handle", &message.command.order.to_string())?;
        }
        Ok(commands::apply(conn, batch).await?)
    }

    fn committed(&self, effect: Option<Tally>) {
        if let Some(tally) = effect {
            tally.count();
        }
        self.waker.wake();
    }
}

/// Decodes a message. Each queue takes its own types only: a message in the wrong queue would be answered to the wrong
/// recipient.
fn decoded(queue: &str, event: &Incoming) -> Result<Command, Undecodable> {
    let decoded = match (queue, event.kind.as_str()) {
        (CHOREOGRAPHY, PaymentCompleted::TYPE) => {
            let message: PaymentCompleted = decode(event)?;
            Command::about(&message, Some(reserve(&message.lines)))
        }
        (CHOREOGRAPHY, OrderConfirmed::TYPE) => {
            Command::about(&decode::<OrderConfirmed>(event)?, Some(Request::Commit))
        }
        (CHOREOGRAPHY, OrderCancelling::TYPE) => {
            Command::about(&decode::<OrderCancelling>(event)?, Some(Request::Release))
        }
        (CHOREOGRAPHY, OrderSettling::TYPE) => {
            let message: OrderSettling = decode(event)?;
            let ours = message.participants.contains(&Participant::Inventory);
            let settle = settle(&message.operator, &message.note);
            Command::about(&message, ours.then_some(settle))
        }
        (COMMANDS, ReserveInventory::TYPE) => {
            let message: ReserveInventory = decode(event)?;
            Command::about(&message, Some(reserve(&message.lines)))
        }
        (COMMANDS, CommitInventory::TYPE) => {
            Command::about(&decode::<CommitInventory>(event)?, Some(Request::Commit))
        }
        (COMMANDS, ReleaseInventory::TYPE) => {
            Command::about(&decode::<ReleaseInventory>(event)?, Some(Request::Release))
        }
        (COMMANDS, SettleInventory::TYPE) => {
            let message: SettleInventory = decode(event)?;
            let settle = settle(&message.operator, &message.note);
            Command::about(&message, Some(settle))
        }
        (_, other) => return Err(Undecodable::UnknownType(other.to_owned())),
    };
    let reply_key = (queue == COMMANDS).then(|| key_of(event)).transpose()?;
    Ok(Command {
        reply_key,
        ..decoded
    })
}

fn reserve(lines: &[PricedLine]) -> Request {
    let line = |line: &PricedLine| OrderLine {
        sku: line.sku.clone(),
        quantity: line.quantity,
    };
    Request::Reserve(lines.iter().map(line).collect())
}

fn settle(operator: &str, note: &str) -> Request {
    Request::Settle {
        operator: operator.to_owned(),
        note: note.to_owned(),
    }
}
