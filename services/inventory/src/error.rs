//! The errors of the use cases. Over HTTP they become problems, and in a consumer outcomes of a message.

use chassis::http::Problem;
use contracts::value::Sku;
use holdfast::messaging;

use crate::domain::{Illegal, Shortfall};

/// The error of a use case. The transaction is rolled back, so nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The message contradicts the reservation's state. It is parked; an operator must look at it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// A shelf holds fewer units than a reservation has on it: a bug. The message is parked for an operator to check.
    #[error(transparent)]
    Shortfall(Shortfall),
    /// A reservation has units of a product without stock: a bug. The message is parked; an operator must look at it.
    #[error("there is no stock of {0}")]
    NoStock(Sku),
    /// Another transaction inserted the row that this one was about to insert. Run this one again: it will see that
    /// row.
    #[error("another transaction inserted the same reservation first")]
    Raced,
    /// The product is not in the catalogue. The caller must create it first.
    #[error("there is no product {0}")]
    UnknownSku(Sku),
    /// The delivery's name was used for another product or quantity. The caller must choose another name.
    #[error("a delivery of this name was made for another product or quantity")]
    OtherDelivery,
    /// The database failed; its own error says if a retry can help.
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
