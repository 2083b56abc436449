//! The errors of the use case, and their translation to an outcome of the message.

use holdfast::messaging;

/// The error of the use case. The transaction is rolled back, so nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another transaction inserted the row that this one was about to insert. Run this one again: it will see that
    /// row.
    #[error("another transaction told the same customer first")]
    Raced,
    /// A template does not fit its values: a bug. The message is parked; an operator must look at it.
    #[error("the mail cannot be written: {0}")]
    Template(#[from] minijinja::Error),
    /// A webhook's payload cannot be written as JSON: a bug. The message is parked; an operator must look at it.
    #[error("the webhook cannot be written: {0}")]
    Payload(#[from] serde_json::Error),
    /// The database failed; its own error says if a retry can help.
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
