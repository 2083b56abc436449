//! What can go wrong in a use case, and what it means to whoever asked: a problem over HTTP, an outcome of a message.

use chassis::http::Problem;
use holdfast::{distributed_lock::Fence, messaging};

use crate::domain::Illegal;

/// Why a use case did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// It contradicts what we know: a message is parked, a person must look at it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The payment does not know what it charges: a defect. Parked, a person must look at it.
    #[error("the payment has no terms")]
    NoTerms,
    /// The wallet that was charged is gone: a defect. Parked, a person must look at it.
    #[error("the wallet that was charged does not exist")]
    NoAccount,
    /// The balance would be negative, or too large to count: a defect. Parked, a person must look at it.
    #[error("the balance of the wallet would leave its range")]
    Balance,
    /// Another transaction made the row that this one was about to make: do it again, and see that row.
    #[error("another transaction was faster")]
    Raced,
    /// The name of the deposit was used for another customer or amount.
    #[error("the deposit of this name was another customer's, or another amount")]
    OtherDeposit,
    /// Somebody newer holds the account's lock, and was let write: we were overtaken.
    #[error("the account's lock was overtaken: the database has seen the fence {0}")]
    Overtaken(Fence),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for messaging::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::Raced => Self::conflict("another transaction made the same payment"),
            error => Self::rejected(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::OtherDeposit => Self::conflict(error),
            error => Self::internal(error),
        }
    }
}
