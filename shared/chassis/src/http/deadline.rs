//! The caller's deadline, for handlers.

use std::time::Duration;

use actix_web::{HttpMessage, HttpRequest};
use holdfast::deadline::Deadline;

/// The time of a request that neither a setting nor its caller limits.
pub(crate) const USUAL_TIME: Duration = Duration::from_secs(5);

/// Returns the time by which the caller wants its response: pass it on to every call that the request leads to.
pub fn deadline_of(request: &HttpRequest) -> Deadline {
    request
        .extensions()
        .get::<Deadline>()
        .copied()
        .unwrap_or_else(|| Deadline::after(USUAL_TIME))
}
