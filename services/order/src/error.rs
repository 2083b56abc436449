//! The errors of use cases, with their meaning to the caller: a problem over HTTP, an outcome of a message.

use chassis::http::Problem;
use contracts::value::OrderId;
use holdfast::messaging;

use crate::domain::{Coordination, Illegal, orchestrated};

/// The reason for which a use case was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The order does not exist. A message about it is parked, because no service publishes about an order that was not
    /// committed here.
    #[error("there is no order {0}")]
    UnknownOrder(OrderId),
    /// The input is not possible in the order's state. A message is parked for a person to look at.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The same as [`Error::Illegal`], for an orchestrated order.
    #[error(transparent)]
    IllegalCommand(#[from] orchestrated::Illegal),
    /// A message of choreography about an orchestrated order, or a command about a choreographed one. It is parked: a
    /// service that has the order from us would not have sent it.
    #[error("the order is one of {0:?}, and this message is not")]
    OtherWay(Coordination),
    /// The Idempotency-Key was used for another request.
    #[error("the Idempotency-Key was first used with another request body")]
    KeyReused,
    /// Only a stuck order is written off: until then its participants may still answer by themselves.
    #[error("the order is not stuck")]
    NotStuck,
    /// An order at rest awaits nothing.
    #[error("the order is at rest")]
    AtRest,
    /// The participants of an orchestrated order answer to its saga, so an operator settles it there.
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
