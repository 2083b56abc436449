//! Messages -> commands.

use chassis::events::decode;
use contracts::{
    Message,
    order::{OrderCancelled, OrderConfirmed},
};
use holdfast::{
    failpoint,
    messaging::{Error, Handler, Incoming, Received, Undecodable, parking::Schema},
    outbox::Waker,
};
use sqlx::PgConnection;

use crate::{
    commands,
    domain::{Charge, News, What},
    template::Templates,
};

/// The queue of what customers are told.
pub(crate) const CHOREOGRAPHY: &str = "notification.choreography";

/// What customers are told.
pub(crate) struct Choreography {
    pub(crate) templates: Templates,
    /// Wakes the worker that sends.
    pub(crate) post: Waker,
}

impl Handler for Choreography {
    type Message = News;

    fn decode(&self, event: &Incoming) -> Result<News, Undecodable> {
        decoded(event)
    }

    async fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<News>],
    ) -> Result<(), Error> {
        for received in batch {
            failpoint::inject(
                "notification.handle",
                &received.message.order_id.to_string(),
            )?;
        }
        let batch: Vec<_> = batch
            .iter()
            .map(|received| (&received.message, &received.span))
            .collect();
        Ok(commands::tell(conn, &self.templates, &batch).await?)
    }

    fn committed(&self) {
        self.post.wake();
    }
}

fn decoded(event: &Incoming) -> Result<News, Undecodable> {
    Ok(match event.kind.as_str() {
        OrderConfirmed::TYPE => {
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
        OrderCancelled::TYPE => {
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
