//! The HTTP side of a service: limits, problems, and extractors that name what is invalid in a request.

mod arriving;
mod body;
mod idempotency;
mod methods;
mod problem;
mod server;

pub use body::{JsonBody, Note, PathId, QueryString, page_of, page_size, unknown_cursor};
pub use idempotency::IdempotencyKey;
pub(crate) use problem::CONTENT_TYPE as PROBLEM;
pub use problem::{FieldError, Problem};
pub use server::{DESTINATION, deadline_of};
pub(crate) use server::{Name, Shared, serve};
