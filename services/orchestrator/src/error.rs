//! What can go wrong in a use case, and what it means to whoever asked: a problem over HTTP, an outcome of a message.

use chassis::http::Problem;
use holdfast::{messaging, saga};
use uuid::Uuid;

/// Why a use case did not happen. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// An answer to a saga that nobody started, or to a step that it does not have. Parked: a person must look at it.
    #[error("there is no saga {0} that asked this")]
    NobodyAsked(Uuid),
    /// What the saga says about it.
    #[error(transparent)]
    Saga(#[from] saga::Error),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for messaging::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) | Error::Saga(saga::Error::Database(error)) => error.into(),
            error => Self::rejected(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) | Error::Saga(saga::Error::Database(error)) => error.into(),
            Error::NobodyAsked(_) | Error::Saga(saga::Error::NotFound(_)) => {
                Self::not_found("there is no such saga")
            }
            Error::Saga(error @ (saga::Error::NotStuck(_) | saga::Error::Broken(_))) => {
                Self::conflict(error)
            }
            Error::Saga(error) => Self::internal(error),
        }
    }
}
