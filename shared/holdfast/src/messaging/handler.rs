//! What a service implements to consume.

use std::future::Future;

use sqlx::PgConnection;
use tracing::Span;

use super::event::{Incoming, Malformed};
use crate::failpoint::Injected;

/// Handles the messages of one queue.
pub trait Handler: Send + Sync + 'static {
    /// The messages that this queue may bring, decoded.
    type Message: Send + Sync;

    /// Decodes the payload. What cannot be decoded is parked at once.
    fn decode(&self, event: &Incoming) -> Result<Self::Message, Undecodable>;

    /// Handles a batch, in its order, on the caller's transaction.
    ///
    /// Either the whole batch takes effect or, with an error, none of it: the caller rolls back. An implementation must
    /// do its network calls elsewhere, must lock its rows in one order, and must expect the same batch, a part of it, or
    /// one message of it alone, to come again.
    fn handle(
        &self,
        conn: &mut PgConnection,
        batch: &[&Received<Self::Message>],
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// The batch has committed: wake who waits for its rows.
    fn committed(&self);
}

/// A message, its envelope, and the span that its handling belongs to.
#[derive(Debug)]
pub struct Received<M> {
    /// The envelope.
    pub event: Incoming,
    /// The payload.
    pub message: M,
    /// Enter it while handling the message: what is sent meanwhile carries on its trace.
    pub span: Span,
}

/// The payload cannot be read, now or ever: the message is parked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// This queue does not know the type, or not in this version.
    #[error("this queue does not take messages of type {0:?}")]
    UnknownType(String),
    /// The payload does not have the form of its type.
    #[error("{0}")]
    Malformed(String),
}

impl From<Malformed> for Undecodable {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// Why a batch could not be handled. Each says what the consumer does about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A dependency is away. The consumer waits, with the batch; it costs no message an attempt.
    #[error("a dependency is away: {0}")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It lost a race (deadlock, serialization, a row made at the same time). The batch runs again; it costs no attempt.
    #[error("lost a race: {0}")]
    Conflict(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It failed, and may work another time. The message at fault walks the retry schedule.
    #[error("{0}")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It must not be handled, now or ever. The message at fault is parked.
    #[error("{0}")]
    Rejected(String),
}

impl Error {
    /// The message at fault is parked.
    pub fn rejected(why: impl ToString) -> Self {
        Self::Rejected(why.to_string())
    }

    /// What it is, in one word.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Conflict(_) => "conflict",
            Self::Failed(_) => "failed",
            Self::Rejected(_) => "rejected",
        }
    }

    /// Another transaction was faster: run the batch again and see its rows.
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
            Class::Conflict => Self::Conflict(Box::new(error)),
            Class::Other => Self::Failed(Box::new(error)),
        }
    }
}

/// What an error of the database says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The server is away, is starting or stopping, or has no room. Nothing is wrong with the query.
    Unavailable,
    /// Another transaction got in the way. The same transaction may work now.
    Conflict,
    /// The query itself, or the data.
    Other,
}

/// Sorts an error of the database.
///
/// Source: PostgreSQL, "Appendix A. PostgreSQL Error Codes".
pub fn classify(error: &sqlx::Error) -> Class {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Class::Unavailable,
        sqlx::Error::Database(error) => match error.code().as_deref() {
            // serialization_failure, deadlock_detected, lock_not_available
            Some("40001" | "40P01" | "55P03") => Class::Conflict,
            // query_canceled (statement_timeout), read_only_sql_transaction (a failover), object_not_in_prerequisite_state
            // (a database that takes no connections)
            Some("57014" | "25006" | "55000") => Class::Unavailable,
            // insufficient_privilege, undefined_table: a server that was restored or set up wrongly, or is not migrated yet. It is
            // mended at the server; until then no message is to blame.
            Some("42501" | "42P01") => Class::Unavailable,
            // 08 connection exception, 28 invalid authorization, 3D no such database, 53 insufficient resources, 57P operator
            // intervention, 58 system error
            Some(code)
                if ["08", "28", "3D", "53", "57P", "58"]
                    .iter()
                    .any(|class| code.starts_with(class)) =>
            {
                Class::Unavailable
            }
            _ => Class::Other,
        },
        _ => Class::Other,
    }
}
