//! HTTP, as handlers see it: problems, extractors that name what is invalid in a request, and the caller's deadline.

mod body;
mod deadline;
mod idempotency;
mod problem;

pub use body::{JsonBody, Note, PathId, QueryString, page_of, page_size, unknown_cursor};
pub(crate) use deadline::USUAL_TIME;
pub use deadline::deadline_of;
pub use idempotency::IdempotencyKey;
pub(crate) use problem::CONTENT_TYPE as PROBLEM;
pub use problem::{FieldError, Problem};

/// The header that names the service for which a request is meant. An address may get another owner while caches still
/// hold it: a service rejects a request for another one, instead of answering in its place.
pub const DESTINATION: &str = "x-destination-service";
