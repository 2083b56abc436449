//! Decodes messages into commands, and applies them in batches.

use chassis::{
    events::{decode, key_of},
    tally::Tally,
};
use contracts::{
    Message,
    orchestrator::{ChargePayment, RefundPayment, SettlePayment},
    order::{Customer, OrderCancelling, OrderCreated, OrderSettling, Participant},
    value::{Money, PaymentMethod, PricedLine},
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable},
    outbox::Waker,
};
use sqlx::PgConnection;

use crate::{
    commands::{self, Command, Request},
    store::Terms,
};

/// The queue of the events that payments react to.
pub(crate) const CHOREOGRAPHY: &str = "payment.choreography";
/// The queue of the orchestrator's commands.
pub(crate) const COMMANDS: &str = "payment.commands";

/// The handler of one of the two queues.
pub(crate) struct Consumer {
    /// The queue's name, which decides the types that it takes and where they are answered.
    pub(crate) queue: &'static str,
    /// The waker of the outbox's relay.
    pub(crate) waker: Waker,
    /// The waker of the card worker.
    pub(crate) card: Waker,
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
        for Command { order, request, .. } in batch.iter().map(|message| &message.command) {
            let point = match request {
                None => continue,
                Some(Request::Cancel) => "payment.cancel",
                Some(Request::Charge(_) | Request::Settle { .. }) => "payment.handle",
            };
            failpoint::inject(point, &order.to_string())?;
        }
        Ok(commands::apply(conn, batch).await?)
    }

    fn committed(&self, effect: Option<Tally>) {
        if let Some(tally) = effect {
            tally.count();
        }
        self.waker.wake();
        self.card.wake();
    }
}

/// Decodes a message. Each queue takes its own types only: a message in the wrong queue would be answered to the wrong
/// recipient.
fn decoded(queue: &str, event: &Incoming) -> Result<Command, Undecodable> {
    let decoded = match (queue, event.kind.as_str()) {
        (CHOREOGRAPHY, OrderCreated::TYPE) => {
            let message: OrderCreated = decode(event)?;
            let charge = charge(
                &message.customer,
                message.amount,
                &message.payment,
                &message.lines,
            );
            Command::about(&message, Some(charge))
        }
        (CHOREOGRAPHY, OrderCancelling::TYPE) => {
            Command::about(&decode::<OrderCancelling>(event)?, Some(Request::Cancel))
        }
        (CHOREOGRAPHY, OrderSettling::TYPE) => {
            let message: OrderSettling = decode(event)?;
            let ours = message.participants.contains(&Participant::Payment);
            let settle = settle(&message.operator, &message.note);
            Command::about(&message, ours.then_some(settle))
        }
        (COMMANDS, ChargePayment::TYPE) => {
            let message: ChargePayment = decode(event)?;
            let charge = charge(
                &message.customer,
                message.amount,
                &message.payment,
                &message.lines,
            );
            Command::about(&message, Some(charge))
        }
        (COMMANDS, RefundPayment::TYPE) => {
            Command::about(&decode::<RefundPayment>(event)?, Some(Request::Cancel))
        }
        (COMMANDS, SettlePayment::TYPE) => {
            let message: SettlePayment = decode(event)?;
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

fn charge(
    customer: &Customer,
    amount: Money,
    method: &PaymentMethod,
    lines: &[PricedLine],
) -> Request {
    Request::Charge(Terms {
        customer: customer.id.clone(),
        amount,
        method: method.clone(),
        lines: lines.to_vec(),
    })
}

fn settle(operator: &str, note: &str) -> Request {
    Request::Settle {
        operator: operator.to_owned(),
        note: note.to_owned(),
    }
}
