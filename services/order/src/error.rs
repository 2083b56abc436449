//! What can go wrong in a use case, and what it means to whoever asked: a problem over HTTP, an outcome of a message.

use chassis::http::Problem;
use contracts::value::OrderId;
use holdfast::messaging;

use crate::domain::Illegal;

/// Why a use case did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such order. From a message: parked, as nobody publishes about an order that we did not commit.
    #[error("there is no order {0}")]
    UnknownOrder(OrderId),
    /// Not in the state that the order is in. From a message: parked, a person must look at it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The Idempotency-Key was used for another request.
    #[error("it was first used for another request body")]
    KeyReused,
    /// Only a stuck order is written off: until then its participants may still answer by themselves.
    #[error("the order is not stuck")]
    NotStuck,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for messaging::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::UnknownOrder(_) | Error::Illegal(_) | Error::KeyReused | Error::NotStuck => {
                Self::rejected(error)
            }
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownOrder(_) => Self::not_found("there is no such order"),
            Error::Illegal(_) | Error::NotStuck => Self::conflict(error),
            Error::KeyReused => Self::idempotency_key_reused(error),
            Error::Database(error) => error.into(),
        }
    }
}
