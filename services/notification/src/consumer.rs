//! Decodes messages into news, and handles them in batches.

use chassis::events::{decode, key_of};
use contracts::{
    Message,
    orchestrator::{self, SendNotification, Undoing},
    order::{OrderCancelled, OrderConfirmed},
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable},
    outbox::Waker,
};
use sqlx::PgConnection;

use crate::{
    commands::{self, Command},
    domain::{Charge, News, What},
    template::Templates,
};

/// The queue of the events of which customers are notified.
pub(crate) const CHOREOGRAPHY: &str = "notification.choreography";
/// The queue of the orchestrator's commands.
pub(crate) const COMMANDS: &str = "notification.commands";

/// The handler of one of the two queues.
pub(crate) struct Consumer {
    /// The queue's name, which decides the types that it takes and if they are answered.
    pub(crate) queue: &'static str,
    pub(crate) templates: Templates,
    /// The waker of the outbox's relay.
    pub(crate) waker: Waker,
    /// The waker of the worker that sends mails.
    pub(crate) post: Waker,
    /// The waker of the worker that sends webhooks.
    pub(crate) webhooks: Waker,
}

impl Handler for Consumer {
    type Command = Command;
    type Effect = ();

    fn decode(&self, event: &Incoming) -> Result<Command, Undecodable> {
        decoded(self.queue, event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Command>],
    ) -> Result<(), Error> {
        for message in batch {
            let order = message.command.news.order_id;
            failpoint::inject("notification.handle", &order.to_string())?;
        }
        Ok(commands::tell(conn, &self.templates, batch).await?)
    }

    fn committed(&self, _: Option<()>) {
        self.waker.wake();
        self.post.wake();
        self.webhooks.wake();
    }
}

/// Decodes a message. Each queue takes its own types only.
fn decoded(queue: &str, event: &Incoming) -> Result<Command, Undecodable> {
    let news = match (queue, event.kind.as_str()) {
        (CHOREOGRAPHY, OrderConfirmed::TYPE) => {
            let OrderConfirmed {
                order_id,
                order_version,
                customer,
                amount,
            } = decode(event)?;
            News {
                order_id,
                order_version,
                customer,
                amount,
                what: What::Confirmed,
            }
        }
        (CHOREOGRAPHY, OrderCancelled::TYPE) => {
            let OrderCancelled {
                order_id,
                order_version,
                reason,
                customer,
                amount,
                refunded,
                settled,
            } = decode(event)?;
            let charge = match (settled, refunded) {
                (true, _) => Charge::Settled,
                (false, true) => Charge::Refunded,
                (false, false) => Charge::None,
            };
            News {
                order_id,
                order_version,
                customer,
                amount,
                what: What::Cancelled { reason, charge },
            }
        }
        (COMMANDS, SendNotification::TYPE) => {
            let SendNotification {
                order_id,
                order_version,
                customer,
                amount,
                news,
            } = decode(event)?;
            News {
                order_id,
                order_version,
                customer,
                amount,
                what: what(news),
            }
        }
        (_, other) => return Err(Undecodable::UnknownType(other.to_owned())),
    };
    let reply_key = (queue == COMMANDS).then(|| key_of(event)).transpose()?;
    Ok(Command { news, reply_key })
}

/// Translates the orchestrator's news into this service's.
fn what(news: orchestrator::News) -> What {
    match news {
        orchestrator::News::Confirmed => What::Confirmed,
        orchestrator::News::Cancelled { reason, payment } => What::Cancelled {
            reason,
            charge: match payment {
                Undoing::Undone => Charge::Refunded,
                Undoing::NothingToUndo => Charge::None,
                Undoing::Settled => Charge::Settled,
            },
        },
    }
}
