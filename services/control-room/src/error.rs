//! What can go wrong between the room and a service, and what it means to whoever asked the room.

use std::time::Duration;

use chassis::http::Problem;
use serde_json::Value;
use tracing::warn;

/// Why a service did not do what the room asked. Of a service that is away, nothing is known of what it did.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No answer, or none in time: come back.
    #[error("{service} does not answer: {why}")]
    Away { service: &'static str, why: String },
    /// It answered that it cannot now: come back when it says.
    #[error("{service} cannot do that now: {detail}")]
    NotNow {
        service: &'static str,
        retry_after: Option<Duration>,
        detail: String,
    },
    /// It answered that it will not, to a request that is the visitor's: the visitor is told the same.
    #[error("{service}: {detail}")]
    Refused {
        service: &'static str,
        status: u16,
        detail: String,
    },
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

impl Error {
    /// The error that an answer without success is: its status, when to come back, and its body.
    pub(crate) fn refused(
        service: &'static str,
        status: u16,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Self {
        let problem: Value = serde_json::from_slice(body).unwrap_or_default();
        let body = || String::from_utf8_lossy(body).into_owned();
        let detail = problem["detail"].as_str().map_or_else(body, str::to_owned);
        match status {
            // 502 and 504 are said by what stands between: a proxy whose service is away.
            408 | 429 | 502 | 503 | 504 => Self::NotNow {
                service,
                retry_after,
                detail,
            },
            403 | 404 | 409 => Self::Refused {
                service,
                status,
                detail,
            },
            _ => Self::Unexpected {
                service,
                status,
                body: body(),
            },
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            // Why has addresses in it, which are for the log.
            Error::Away { service, .. } => {
                warn!(%error, "cannot ask a service");
                Self::unavailable(format!("{service} does not answer"))
            }
            Error::NotNow {
                retry_after: Some(after),
                ..
            } => Self::unavailable(error).retry_after(after),
            Error::NotNow { .. } => Self::unavailable(error),
            Error::Refused { status: 403, .. } => Self::forbidden(error),
            Error::Refused { status: 409, .. } => Self::conflict(error),
            Error::Refused { .. } | Error::NoService(_) => Self::not_found(error),
            Error::Unexpected { .. } | Error::Token(_) => Self::internal(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::ResponseError;

    use super::*;

    #[test]
    fn what_an_upstream_says_is_passed_on() {
        for (status, becomes) in [
            (403, 403),
            (404, 404),
            (408, 503),
            (409, 409),
            (429, 503),
            (500, 500),
            (502, 503),
            (503, 503),
            (504, 503),
        ] {
            let after = Some(Duration::from_secs(7));
            let body = br#"{"detail":"not today"}"#;
            let error = Error::refused("order", status, after, body);
            let response = Problem::from(error).error_response();
            assert_eq!(response.status().as_u16(), becomes, "{status}");
            let after = response.headers().get("retry-after");
            let after = after.and_then(|after| after.to_str().ok());
            assert_eq!(after, (becomes == 503).then_some("7"), "{status}");
        }
    }
}
