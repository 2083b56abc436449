//! The errors of the use cases, and their translation: into a problem over HTTP, and into an outcome of a message.

use chassis::http::Problem;
use holdfast::{messaging, saga};
use uuid::Uuid;

/// The error of a use case. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A reply to a saga that does not exist, or to a step that the saga does not have. The message is parked: a person
    /// must look at it.
    #[error("saga {0} does not exist, or has no such step")]
    NobodyAsked(Uuid),
    /// An error of the saga pattern.
    #[error(transparent)]
    Saga(#[from] saga::Error),
    /// The database failed. The message is retried; over HTTP the client may.
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
