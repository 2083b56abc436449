//! Decodes messages into commands, and applies them in batches.

use chassis::{
    events::{decode, key_of, source_of},
    tally::Held,
};
use contracts::{
    Message,
    orchestrator::{CommitInventory, ReleaseInventory, ReserveInventory, SettleInventory},
    order::{OrderCancelling, OrderConfirmed, OrderSettling, Participant},
    payment::PaymentCompleted,
    value::{OrderId, OrderLine, PricedLine},
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable, parking::Schema},
    outbox::Waker,
};
use sqlx::PgConnection;

use crate::commands::{self, Command, Told};

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
    /// The counts of the batch in hand, until it has committed.
    pub(crate) held: Held,
}

/// A decoded message.
pub(crate) struct Decoded {
    order: OrderId,
    order_version: u32,
    /// The command; `None` if the message does not concern this service.
    command: Option<Command>,
    /// The idempotency key under which a command is answered; `None` in choreography.
    reply_key: Option<String>,
}

impl Handler for Consumer {
    type Message = Decoded;

    fn decode(&self, event: &Incoming) -> Result<Decoded, Undecodable> {
        decoded(self.queue, event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Decoded>],
    ) -> Result<(), Error> {
        let mut told = Vec::with_capacity(batch.len());
        for Received {
            event,
            message,
            span,
        } in batch
        {
            failpoint::inject("inventory.handle", &message.order.to_string())?;
            if let Some(command) = &message.command {
                let (order, order_version) = (message.order, message.order_version);
                told.push(Told {
                    order,
                    order_version,
                    command,
                    event,
                    answering: message.reply_key.as_deref().into(),
                    span,
                });
            }
        }
        self.held.hold(commands::apply(conn, &told).await?);
        Ok(())
    }

    fn committed(&self) {
        self.held.count();
        self.waker.wake();
    }
}

/// Decodes a message. Each queue takes its own types only: a message in the wrong queue would be answered to the wrong
/// recipient.
fn decoded(queue: &str, event: &Incoming) -> Result<Decoded, Undecodable> {
    fn about<M: Message>(message: &M, command: Option<Command>) -> Decoded {
        Decoded {
            order: message.order_id(),
            order_version: message.order_version(),
            command,
            reply_key: None,
        }
    }
    let decoded = match (queue, event.kind.as_str()) {
        (CHOREOGRAPHY, PaymentCompleted::TYPE) => {
            let message: PaymentCompleted = decode(event)?;
            about(&message, Some(reserve(&message.lines)))
        }
        (CHOREOGRAPHY, OrderConfirmed::TYPE) => {
            about(&decode::<OrderConfirmed>(event)?, Some(Command::Commit))
        }
        (CHOREOGRAPHY, OrderCancelling::TYPE) => {
            about(&decode::<OrderCancelling>(event)?, Some(Command::Release))
        }
        (CHOREOGRAPHY, OrderSettling::TYPE) => {
            let message: OrderSettling = decode(event)?;
            let ours = message.participants.contains(&Participant::Inventory);
            let settle = settle(&message.operator, &message.note);
            about(&message, ours.then_some(settle))
        }
        (COMMANDS, ReserveInventory::TYPE) => {
            let message: ReserveInventory = decode(event)?;
            about(&message, Some(reserve(&message.lines)))
        }
        (COMMANDS, CommitInventory::TYPE) => {
            about(&decode::<CommitInventory>(event)?, Some(Command::Commit))
        }
        (COMMANDS, ReleaseInventory::TYPE) => {
            about(&decode::<ReleaseInventory>(event)?, Some(Command::Release))
        }
        (COMMANDS, SettleInventory::TYPE) => {
            let message: SettleInventory = decode(event)?;
            let settle = settle(&message.operator, &message.note);
            about(&message, Some(settle))
        }
        (_, other) => return Err(Undecodable::UnknownType(other.to_owned())),
    };
    let reply_key = (queue == COMMANDS).then(|| key_of(event)).transpose()?;
    Ok(Decoded {
        reply_key,
        ..decoded
    })
}

fn reserve(lines: &[PricedLine]) -> Command {
    let line = |line: &PricedLine| OrderLine {
        sku: line.sku.clone(),
        quantity: line.quantity,
    };
    Command::Reserve(lines.iter().map(line).collect())
}

fn settle(operator: &str, note: &str) -> Command {
    Command::Settle {
        operator: operator.to_owned(),
        note: note.to_owned(),
    }
}

/// The schema that operators' edits of parked messages are checked against.
pub(crate) struct Messages;

impl Schema for Messages {
    fn check(&self, queue: &str, event: &Incoming) -> Result<(), String> {
        decoded(queue, event)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }

    fn source(&self, kind: &str) -> Option<&'static str> {
        source_of(kind)
    }
}
