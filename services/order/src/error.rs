//! What can go wrong in a use case, and what it means to whoever asked: a problem over HTTP, an outcome of a message.

use chassis::http::Problem;
use contracts::value::OrderId;
use holdfast::messaging;

use crate::domain::{Coordination, Illegal, orchestrated};

/// Why a use case did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such order. From a message: parked, as nobody publishes about an order that we did not commit.
    #[error("there is no order {0}")]
    UnknownOrder(OrderId),
    /// Not in the state that the order is in. From a message: parked, a person must look at it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The same, of an orchestrated order.
    #[error(transparent)]
    IllegalCommand(#[from] orchestrated::Illegal),
    /// A message of choreography about an orchestrated order, or a command about a choreographed one. Parked: nobody who
    /// had the order from us would have sent it.
    #[error("the order is one of {0:?}: this message is not")]
    OtherWay(Coordination),
    /// The Idempotency-Key was used for another request.
    #[error("it was first used for another request body")]
    KeyReused,
    /// Only a stuck order is written off: until then its participants may still answer by themselves.
    #[error("the order is not stuck")]
    NotStuck,
    /// Nothing is awaited by an order at rest.
    #[error("the order is at rest")]
    AtRest,
    /// An orchestrated order's participants answer to its saga, so an operator turns to that.
    #[error("an orchestrated order is settled at its saga: cargo xtask sagas")]
    SettledAtSaga,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for messaging::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::UnknownOrder(_)
            | Error::Illegal(_)
            | Error::IllegalCommand(_)
            | Error::OtherWay(_)
            | Error::KeyReused
            | Error::NotStuck
            | Error::AtRest
            | Error::SettledAtSaga => Self::rejected(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownOrder(_) => Self::not_found("there is no such order"),
            Error::Illegal(_)
            | Error::IllegalCommand(_)
            | Error::OtherWay(_)
            | Error::NotStuck
            | Error::AtRest
            | Error::SettledAtSaga => Self::conflict(error),
            Error::KeyReused => Self::idempotency_key_reused(error),
            Error::Database(error) => error.into(),
        }
    }
}
