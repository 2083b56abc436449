//! The use case, on the caller's transaction: notifying customers of the ends of their orders.

mod batch;

use chassis::events::Publishing;

pub(crate) use self::batch::tell;
use crate::domain::News;

const PUBLISHING: Publishing<'static> = Publishing {
    service: "notification",
    cause: None,
};

/// A message about an order.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) news: News,
    /// The idempotency key under which a command is answered; `None` for an event, which gets no answer.
    pub(crate) reply_key: Option<String>,
}
