//! The errors of calls to the services, and the problems that visitors get for them.

use std::time::Duration;

use chassis::http::Problem;
use serde_json::Value;
use tracing::warn;

/// A call to a service that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// No response, or none in time. The service may have carried out the request. The visitor gets 503, and may retry.
    #[error("{service} does not answer: {why}")]
    Away { service: &'static str, why: String },
    /// The service cannot serve the request now. The visitor gets 503, with the service's Retry-After.
    #[error("{service} cannot do that now: {detail}")]
    NotNow {
        service: &'static str,
        retry_after: Option<Duration>,
        detail: String,
    },
    /// The service refused the visitor's request. The visitor gets the same status.
    #[error("{service}: {detail}")]
    Refused {
        service: &'static str,
        status: u16,
        detail: String,
    },
    /// The service answered something that it should not: a bug, here or there. The visitor gets 500.
    #[error("{service} answered {status}: {body}")]
    Unexpected {
        service: &'static str,
        status: u16,
        body: String,
    },
    /// The visitor named an unknown service, and gets 404.
    #[error("there is no service {0:?}")]
    NoService(String),
    /// The room has no token for the call: its settings are wrong. The visitor gets 500.
    #[error("no token: {0}")]
    Token(String),
}

impl Error {
    /// Returns the error for a response with this status, Retry-After and body.
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
            // 502 and 504 come from a proxy whose service is unavailable.
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
            // The reason contains addresses, which only the log may show.
            Error::Away { service, .. } => {
                warn!(%error, "cannot call a service");
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
    fn upstream_errors_are_mapped_with_their_retry_after() {
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
