//! What can go wrong in a use case, and what it means to the message that led to it.

use holdfast::messaging;

/// Why a use case did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another transaction made the row that this one was about to make: do it again, and see that row.
    #[error("another transaction was faster")]
    Raced,
    /// A template does not fit what it was given: a defect. Parked, a person must look at it.
    #[error("the mail cannot be written: {0}")]
    Template(#[from] minijinja::Error),
    /// A webhook's payload cannot be JSON: a defect. Parked, a person must look at it.
    #[error("the webhook cannot be written: {0}")]
    Payload(#[from] serde_json::Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for messaging::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => error.into(),
            Error::Raced => Self::conflict("another transaction told the same customer"),
            Error::Template(_) | Error::Payload(_) => Self::rejected(error),
        }
    }
}
