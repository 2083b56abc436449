//! The trait that a service implements to consume, and its errors.

use std::future::Future;

use sqlx::PgConnection;
use tracing::Span;

use super::event::{Incoming, Malformed};
use crate::{
    failpoint::Injected,
    transaction::{Class, classify},
};

/// A handler of the messages of one queue.
pub trait Handler: Send + Sync + 'static {
    /// A message of this queue, decoded.
    type Command: Send + Sync;
    /// The part of a batch's effect that must wait for its commit: counts, for example.
    type Effect: Send;

    /// Decodes the payload, and checks that it keeps its contract and that its source may send it: an implementation
    /// acts on nothing that it has not checked here. A message that cannot be decoded is parked at once.
    fn decode(&self, event: &Incoming) -> Result<Self::Command, Undecodable>;

    /// Handles a batch, in its order, on the caller's transaction. Returns what is to be done after the commit.
    ///
    /// Either the whole batch takes effect or, with an error, none of it: the caller rolls back. An implementation must
    /// make its network calls elsewhere, must lock its rows in one order, and must expect the same batch, a part of it,
    /// or one message of it alone, to come again.
    fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Self::Command>],
    ) -> impl Future<Output = Result<Self::Effect, Error>> + Send;

    /// Counts a batch and wakes the tasks that wait for its rows. Called after the batch has committed.
    ///
    /// `effect` is what the last run of [`Handler::handle`] on these messages returned; `None` if they were handled
    /// before, by another run whose commit is known. When the reply to a COMMIT is lost, its messages are delivered
    /// again and none of them is new: the effect of the run that committed is passed on then, unless the process has
    /// died.
    fn committed(&self, effect: Option<Self::Effect>);
}

/// A command, the envelope that it came in, and the span that its handling belongs to.
#[derive(Debug)]
pub struct Received<C> {
    /// The envelope, and the payload before decoding.
    pub event: Incoming,
    /// The decoded message.
    pub command: C,
    /// The span to enter while handling the message: messages sent meanwhile continue its trace.
    pub span: Span,
}

/// A payload that cannot be read, now or ever: the message is parked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// This queue does not know the type, or not in this version.
    #[error("this queue does not take messages of type {0:?}")]
    UnknownType(String),
    /// The payload does not have the form of its type.
    #[error("{0}")]
    Malformed(String),
    /// The payload has the form of its type but breaks a promise of the type: its total is not the sum of its lines,
    /// say.
    #[error("{0}")]
    Violation(String),
    /// The source may not publish this type: a service sends in another's name.
    #[error("{by:?} may not publish messages of type {kind:?}")]
    Forged {
        /// The source that the envelope names.
        by: String,
        /// The type of the message.
        kind: String,
    },
}

impl Undecodable {
    /// Returns the cause under which the message is parked.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::UnknownType(_) => "unknown_type",
            Self::Malformed(_) => "malformed",
            Self::Violation(_) => "contract_violation",
            Self::Forged { .. } => "forged_source",
        }
    }
}

impl From<Malformed> for Undecodable {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// A failure to handle a batch. Each variant says what the consumer does about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A dependency is unavailable. The consumer keeps the batch and waits; it costs no message an attempt.
    #[error("a dependency is unavailable: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A statement, or the whole transaction, ran into its time limit. The batch runs again and is then taken apart. A
    /// message that is too slow alone, while the database answers others, goes on the retry schedule.
    #[error("took too long: {0}")]
    TooSlow(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The transaction lost a race (deadlock, serialization, a row made at the same time), or a row or table stayed
    /// locked. The batch runs again and is then taken apart. A message that stays locked out alone is put off; it costs
    /// no attempt.
    #[error("lost a race: {0}")]
    Conflict(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The batch failed, and may succeed another time. The message at fault goes on the retry schedule.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A message must not be handled, now or ever. It is parked.
    #[error("{0}")]
    Rejected(String),
}

impl Error {
    /// Makes the error that parks the message at fault, with `why` as its cause.
    pub fn rejected(why: impl ToString) -> Self {
        Self::Rejected(why.to_string())
    }

    /// Returns the error's kind in one word, for traces.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::TooSlow(_) => "too_slow",
            Self::Conflict(_) => "conflict",
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Makes the error of a transaction that was overtaken by another: the batch runs again and sees the other's rows.
    pub fn conflict(why: &'static str) -> Self {
        Self::Conflict(why.into())
    }
}

impl From<Injected> for Error {
    fn from(injected: Injected) -> Self {
        Self::Failed(Box::new(injected))
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match classify(&error) {
            Class::Unavailable => Self::Unavailable(Box::new(error)),
            Class::TooSlow => Self::TooSlow(Box::new(error)),
            Class::Conflict => Self::Conflict(Box::new(error)),
            Class::Other => Self::Failed(Box::new(error)),
        }
    }
}
