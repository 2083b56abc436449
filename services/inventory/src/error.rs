//! What can go wrong in a use case, and what it means to whoever asked: a problem over HTTP, an outcome of a message.

use chassis::http::Problem;
use contracts::value::Sku;
use holdfast::messaging;

use crate::domain::{Illegal, Shortfall};

/// Why a use case did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The message contradicts what we know: parked, a person must look at it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The stock does not hold what a reservation says that it holds: a defect. Parked, a person must look at it.
    #[error(transparent)]
    Shortfall(Shortfall),
    /// A reservation holds units of a product that has no stock: a defect. Parked, a person must look at it.
    #[error("there is no stock of {0}")]
    NoStock(Sku),
    /// Another transaction made the row that this one was about to make: do it again, and see that row.
    #[error("another transaction was faster")]
    Raced,
    /// The catalogue does not have it.
    #[error("there is no product {0}")]
    UnknownSku(Sku),
    /// The name of the delivery was used for another product or quantity.
    #[error("the delivery of this name was of another product or quantity")]
    OtherDelivery,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for messaging::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::Raced => Self::conflict("another transaction made the same reservation"),
            error => Self::rejected(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::UnknownSku(_) => Self::not_found(error),
            Error::OtherDelivery => Self::conflict(error),
            error => Self::internal(error),
        }
    }
}
