//! The errors of charges and refunds, and the problems that the merchant gets for them.

use std::time::Duration;

use chassis::http::Problem;

/// The error of a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Another request is deciding this charge. The merchant should repeat its own after a second.
    #[error("this charge is in progress")]
    InProgress,
    /// The key was used for another request: a bug of the merchant's.
    #[error("it was first used for another request")]
    KeyReused,
    /// The charge does not exist: the merchant has named a wrong id.
    #[error("there is no such charge")]
    NoCharge,
    /// Only a captured charge can be refunded; this one was declined, or is not decided yet.
    #[error("this charge was not captured")]
    NotCaptured,
    /// A knob made the request fail. The merchant should repeat it under the same key.
    #[error("a knob made this request fail")]
    Knob,
    /// The database failed; its own error says if a retry can help.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::InProgress => Self::conflict(error).retry_after(Duration::from_secs(1)),
            Error::KeyReused => Self::idempotency_key_reused(error),
            Error::NoCharge => Self::not_found(error),
            Error::NotCaptured => Self::conflict(error),
            Error::Knob => Self::unavailable(error),
            Error::Database(error) => error.into(),
        }
    }
}
