//! Messages -> commands.

use chassis::{events::decode, tally::Held};
use contracts::{
    Message,
    order::{OrderCancelling, OrderCreated, OrderSettling, Participant},
    value::OrderId,
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable, parking::Schema},
    outbox::Waker,
};
use sqlx::PgConnection;

use crate::{
    commands::{self, Command, Told},
    store::Terms,
};

/// The queue of what moves payments.
pub(crate) const CHOREOGRAPHY: &str = "payment.choreography";

/// What moves payments.
pub(crate) struct Choreography {
    /// Wakes the outbox's relay.
    pub(crate) waker: Waker,
    /// Wakes the worker that asks the card company.
    pub(crate) card: Waker,
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
            if let Some(command) = &message.command {
                let (order, order_version) = (message.order, message.order_version);
                let point = if matches!(command, Command::Cancel) {
                    "payment.cancel"
                } else {
                    "payment.handle"
                };
                failpoint::inject(point, &order.to_string())?;
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
        self.card.wake();
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
        OrderCreated::TYPE => {
            let message: OrderCreated = decode(event)?;
            if message.amount.amount_minor <= 0 {
                return Err(Undecodable::Malformed(
                    "amount.amount_minor: must be more than zero".to_owned(),
                ));
            }
            let terms = Terms {
                customer: message.customer.id.clone(),
                amount: message.amount,
                method: message.payment.clone(),
                lines: message.lines.clone(),
            };
            about(&message, Some(Command::Charge(terms)))
        }
        OrderCancelling::TYPE => about(&decode::<OrderCancelling>(event)?, Some(Command::Cancel)),
        OrderSettling::TYPE => {
            let message: OrderSettling = decode(event)?;
            let ours = message.participants.contains(&Participant::Payment);
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
