//! What can go wrong, and what the merchant is told.

use std::time::Duration;

use chassis::http::Problem;

/// Why a request was not served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Somebody works on this charge: ask again.
    #[error("this charge is in progress")]
    InProgress,
    /// The key was used for another request: a defect of the merchant's.
    #[error("it was first used for another request")]
    KeyReused,
    /// There is no such charge.
    #[error("there is no such charge")]
    NoCharge,
    /// What was not captured cannot be refunded.
    #[error("this charge was not captured")]
    NotCaptured,
    /// A knob says so.
    #[error("a knob is turned so that this fails")]
    Knob,
    /// The database failed.
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
