//! RFC 9457 problem details: errors in a form that a program can act on.

use std::{fmt, time::Duration};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{StatusCode, header},
};
use holdfast::{
    deadline, telemetry,
    transaction::{Class, classify},
};
use serde::Serialize;
use tracing::{error, warn};
use utoipa::ToSchema;

use crate::database::{Look, Trouble};

/// An RFC 9457 problem. Its `type` is stable: programs may match on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// The kind of the problem; the last segment of a URN.
    #[serde(rename = "type", serialize_with = "urn")]
    #[schema(value_type = String, example = "urn:holdfast:problem:invalid-field")]
    kind: &'static str,
    /// The kind, in words for people.
    #[schema(value_type = String)]
    title: &'static str,
    /// The HTTP status of the response.
    status: u16,
    /// The details of this occurrence.
    detail: String,
    /// Each field that is not valid, with the limit that it should keep.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    /// The trace under which the cause is logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    /// For a 401: set if a token was shown, and is not valid (RFC 6750, 3.1).
    #[serde(skip)]
    invalid_token: bool,
    /// For a 415: set if the encoding is not supported.
    #[serde(skip)]
    plain_only: bool,
    /// For a 503: the trouble with the database.
    #[serde(skip)]
    trouble: Option<Trouble>,
}

/// A field that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The place of the field: `lines[2].quantity`, `header Idempotency-Key`, `query limit`.
    pub field: String,
    /// The fault, and what would be valid.
    pub detail: String,
}

fn urn<S: serde::Serializer>(kind: &&'static str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("urn:holdfast:problem:{kind}"))
}

/// The time after which a client may repeat a request that this service cannot serve now.
const COME_BACK: Duration = Duration::from_secs(2);

impl Problem {
    fn new(
        status: StatusCode,
        kind: &'static str,
        title: &'static str,
        detail: impl ToString,
    ) -> Self {
        Self {
            kind,
            title,
            status: status.as_u16(),
            detail: detail.to_string(),
            errors: Vec::new(),
            traceparent: None,
            retry_after: None,
            invalid_token: false,
            plain_only: false,
            trouble: None,
        }
    }

    /// Makes a 400: the request cannot be read.
    pub fn bad_request(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "bad-request",
            "The request cannot be read",
            detail,
        )
    }

    /// Makes a 422: a field is not valid. `field` is its place, `detail` says what would be valid.
    pub fn invalid_field(field: impl Into<String>, detail: impl ToString) -> Self {
        let (field, detail) = (field.into(), detail.to_string());
        let problem = Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-field",
            "A field of the request is not valid",
            format!("{field}: {detail}"),
        );
        Self {
            errors: vec![FieldError { field, detail }],
            ..problem
        }
    }

    /// Makes a 401 for a token that is not valid.
    pub fn invalid_token(detail: impl ToString) -> Self {
        Self {
            invalid_token: true,
            ..Self::unauthenticated(detail)
        }
    }

    /// Makes a 401 for a request without a token.
    pub fn unauthenticated(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthenticated",
            "A valid bearer token is needed",
            detail,
        )
    }

    /// Makes a 403: the token does not allow the operation.
    pub fn forbidden(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "This token does not allow that",
            detail,
        )
    }

    /// Makes a 403: a page of another site had a browser send the request, or it was sent to a name that is not ours.
    pub fn foreign_site(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "foreign-site",
            "This cannot be used from there",
            detail,
        )
    }

    /// Makes a 404: the resource does not exist, or this token may not see it.
    pub fn not_found(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not-found",
            "There is no such thing",
            detail,
        )
    }

    /// Makes a 405: the path exists, but does not have the method.
    pub fn method_not_allowed(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method-not-allowed",
            "That method is not supported here",
            detail,
        )
    }

    /// Makes a 408: the body did not arrive in time.
    pub fn timeout(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "request-timeout",
            "The request did not arrive in time",
            detail,
        )
    }

    /// Makes a 409: the current state of the resource does not allow the operation.
    pub fn conflict(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "conflict",
            "That is not possible in its present state",
            detail,
        )
    }

    /// Makes a 413: the body is larger than the limit.
    pub fn too_large(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "too-large",
            "The request body is too large",
            detail,
        )
    }

    /// Makes a 415: the body is not JSON.
    pub fn unsupported_media_type(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            "The content type is not supported",
            detail,
        )
    }

    /// Makes a 415 for a body with an encoding, such as `gzip`. The response names the one encoding that is taken (RFC
    /// 9110, 15.5.16).
    pub fn unsupported_encoding(detail: impl ToString) -> Self {
        Self {
            plain_only: true,
            ..Self::unsupported_media_type(detail)
        }
    }

    /// Makes a 422: the Idempotency-Key was used for another request.
    pub fn idempotency_key_reused(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "This Idempotency-Key belongs to another request",
            detail,
        )
    }

    /// Makes a 500: the fault is ours. `cause` goes to the log and not to the client.
    pub fn internal(cause: impl fmt::Display) -> Self {
        error!(%cause, "a request failed");
        let problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong on our side",
            "the cause is logged under this trace",
        );
        Self {
            traceparent: telemetry::traceparent(),
            ..problem
        }
    }

    /// Makes a 501: this build or this installation lacks the feature.
    pub fn not_implemented(detail: impl ToString) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "not-implemented",
            "This installation cannot do that",
            detail,
        )
    }

    /// Makes a 503 with Retry-After: the service cannot serve the request now. Whether it took effect is unknown; the
    /// client may repeat it under the same Idempotency-Key.
    pub fn unavailable(detail: impl ToString) -> Self {
        let problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Not now; please come back",
            detail,
        );
        Self {
            retry_after: Some(COME_BACK),
            ..problem
        }
    }

    /// Makes a 503: the database did not serve, because of `trouble`.
    fn trouble(trouble: Trouble) -> Self {
        Self {
            kind: trouble.name(),
            trouble: Some(trouble),
            ..Self::unavailable(trouble.detail())
        }
    }

    /// Counts the trouble with the database that this problem reports, if any. Returns another problem to answer with
    /// if a look at the database shows more than the error did.
    pub(crate) async fn explained(&self, look: Option<&Look>) -> Option<Self> {
        let trouble = self.trouble?;
        let known = match look {
            Some(look) => look.explain(trouble).await,
            None => trouble,
        };
        known.count();
        if known == trouble {
            return None;
        }
        warn!(
            why = known.name(),
            "it was not the pool: the database refuses to serve"
        );
        Some(Self::trouble(known))
    }

    /// Sets the time after which to repeat the request, in place of the usual one.
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        Self {
            retry_after: Some(after),
            ..self
        }
    }

    /// Makes a problem for a status that the framework answered.
    pub(crate) fn from_status(status: StatusCode) -> Self {
        let detail = status.canonical_reason().unwrap_or("refused");
        match status {
            StatusCode::NOT_FOUND => Self::not_found("there is nothing at this path"),
            StatusCode::METHOD_NOT_ALLOWED => Self::method_not_allowed("see /docs for its methods"),
            status if status.is_server_error() => Self::internal(detail),
            _ => Self {
                status: status.as_u16(),
                ..Self::bad_request(detail)
            },
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.title, self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status_code());
        if let Some(after) = self.retry_after {
            response.insert_header((header::RETRY_AFTER, whole_seconds(after).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED.as_u16() {
            let challenge = if self.invalid_token {
                r#"Bearer error="invalid_token""#
            } else {
                "Bearer"
            };
            response.insert_header((header::WWW_AUTHENTICATE, challenge));
        }
        if self.plain_only {
            response.insert_header((header::ACCEPT_ENCODING, "identity"));
        }
        if [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE]
            .contains(&self.status_code())
        {
            // The rest of the request is still to come, and is not read.
            response.force_close();
        }
        response.insert_header((header::CONTENT_TYPE, CONTENT_TYPE));
        response.body(serde_json::to_string(self).unwrap_or_default())
    }
}

/// Returns a wait as `Retry-After` gives it: in whole seconds, at least 1, rounded up, so that no client comes back too
/// early.
fn whole_seconds(wait: Duration) -> u64 {
    let begun = u64::from(wait.subsec_nanos() > 0);
    (wait.as_secs() + begun).max(1)
}

/// The media type of problems.
pub(crate) const CONTENT_TYPE: &str = "application/problem+json";

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match (classify(&error), Trouble::of(&error)) {
            (Class::Conflict, _) => Self::unavailable("lost a race with another request")
                .retry_after(Duration::from_secs(1)),
            (_, Some(trouble)) => {
                warn!(%error, why = trouble.name(), "the database did not serve a request");
                Self::trouble(trouble)
            }
            (_, None) => Self::internal(error),
        }
    }
}

impl From<deadline::Exceeded> for Problem {
    fn from(exceeded: deadline::Exceeded) -> Self {
        Self::unavailable(exceeded)
    }
}
