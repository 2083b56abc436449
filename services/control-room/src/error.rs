//! What can go wrong between the room and a service, and what it means to who asked.

use chassis::http::Problem;
use tracing::warn;

/// Why a service did not answer. Nothing is known of what it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody answers, or not in time: come back.
    #[error("{service} does not answer: {why}")]
    Away { service: &'static str, why: String },
    /// It answered something that it should not: look at both.
    #[error("{service} answered {status}: {body}")]
    Unexpected {
        service: &'static str,
        status: u16,
        body: String,
    },
    /// There is no such service.
    #[error("there is no service {0:?}")]
    NoService(String),
    /// The room has no token to show: its settings are wrong.
    #[error("no token: {0}")]
    Token(String),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            // Why has addresses in it, which are for the log.
            Error::Away { service, .. } => {
                warn!(%error, "cannot ask a service");
                Self::unavailable(format!("{service} does not answer"))
            }
            Error::NoService(_) => Self::not_found(error),
            Error::Unexpected { .. } | Error::Token(_) => Self::internal(error),
        }
    }
}
