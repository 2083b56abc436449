//! Messages -> commands.

use chassis::{events::decode, tally::Held};
use contracts::{
    Message,
    order::{OrderCancelling, OrderConfirmed, OrderSettling, Participant},
    payment::PaymentCompleted,
    value::{OrderId, OrderLine},
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable, parking::Schema},
    outbox::Waker,
};
use sqlx::PgConnection;

use crate::commands::{self, Command, Told};

/// The queue of what moves reservations.
pub(crate) const CHOREOGRAPHY: &str = "inventory.choreography";

/// What moves reservations.
pub(crate) struct Choreography {
    pub(crate) waker: Waker,
    /// What the batch in hand will have done.
    pub(crate) held: Held,
}

/// A decoded message.
pub(crate) struct Decoded {
    order: OrderId,
    order_version: u32,
    /// None: it is not for us.
    command: Option<Command>,
}

impl Handler for Choreography {
    type Message = Decoded;

    fn decode(&self, event: &Incoming) -> Result<Decoded, Undecodable> {
        decoded(event)
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

fn decoded(event: &Incoming) -> Result<Decoded, Undecodable> {
    fn about<M: Message>(message: &M, command: Option<Command>) -> Decoded {
        Decoded {
            order: message.order_id(),
            order_version: message.order_version(),
            command,
        }
    }
    Ok(match event.kind.as_str() {
        PaymentCompleted::TYPE => {
            let message: PaymentCompleted = decode(event)?;
            let line = |line: &contracts::value::PricedLine| OrderLine {
                sku: line.sku.clone(),
                quantity: line.quantity,
            };
            about(
                &message,
                Some(Command::Reserve(message.lines.iter().map(line).collect())),
            )
        }
        OrderConfirmed::TYPE => about(&decode::<OrderConfirmed>(event)?, Some(Command::Commit)),
        OrderCancelling::TYPE => about(&decode::<OrderCancelling>(event)?, Some(Command::Release)),
        OrderSettling::TYPE => {
            let message: OrderSettling = decode(event)?;
            let ours = message.participants.contains(&Participant::Inventory);
            let settle = Command::Settle {
                operator: message.operator.clone(),
                note: message.note.clone(),
            };
            about(&message, ours.then_some(settle))
        }
        other => return Err(Undecodable::UnknownType(other.to_owned())),
    })
}

/// What the operator's edits are checked against.
pub(crate) struct Messages;

impl Schema for Messages {
    fn check(&self, _queue: &str, event: &Incoming) -> Result<(), String> {
        decoded(event)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}
