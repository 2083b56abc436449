//! The errors of the use cases. Over HTTP they become problems, and in a consumer outcomes of a message.

use chassis::http::Problem;
use holdfast::{distributed_lock::Fence, messaging};

use crate::domain::Illegal;

/// The error of a use case. The transaction is rolled back, so nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The input contradicts the payment's state. A message is parked; an operator must look at it.
    #[error(transparent)]
    Illegal(#[from] Illegal),
    /// The payment has no terms to charge by: a bug. The message is parked; an operator must look at it.
    #[error("the payment has no terms")]
    NoTerms,
    /// The wallet that was charged is gone: a bug. The message is parked; an operator must look at it.
    #[error("the wallet that was charged does not exist")]
    NoAccount,
    /// The balance would be negative, or too large to count: a bug. The message is parked; an operator must look at it.
    #[error("the balance of the wallet would leave its range")]
    Balance,
    /// Another transaction inserted the row that this one was about to insert. Run this one again: it will see that
    /// row.
    #[error("another transaction inserted the same payment first")]
    Raced,
    /// The deposit's name was used for another customer or amount. The caller must choose another name.
    #[error("a deposit of this name was made for another customer or amount")]
    OtherDeposit,
    /// The database has seen a newer holder of the account's lock. The payment is put back, and claimed again.
    #[error("the account's lock was overtaken: the database has seen the fence {0}")]
    Overtaken(Fence),
    /// The database failed; its own error says if a retry can help.
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
