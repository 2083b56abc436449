//! A request to a service, and its response.

use std::time::Duration;

use serde_json::Value;

/// The method of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verb {
    Get,
    Put,
    Post,
}

/// A request to a service.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) verb: Verb,
    pub(crate) path: &'a str,
    pub(crate) token: &'a str,
    pub(crate) body: Option<&'a Value>,
    pub(crate) idempotency_key: Option<&'a str>,
}

impl<'a> Call<'a> {
    pub(crate) fn new(verb: Verb, path: &'a str, token: &'a str) -> Self {
        Self {
            verb,
            path,
            token,
            body: None,
            idempotency_key: None,
        }
    }

    pub(crate) fn with(self, body: &'a Value) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }
}

/// A service's response, which the room passes on as it is.
#[derive(Debug)]
pub(crate) struct RawResponse {
    pub(crate) status: u16,
    pub(crate) content_type: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) body: Vec<u8>,
}
