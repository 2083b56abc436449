//! The header that makes a request safe to repeat.

use actix_web::HttpRequest;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Problem;

/// The header Idempotency-Key: 1 to 128 visible ASCII characters, new for each effect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 128, pattern = "^[!-~]{1,128}$")]
#[serde(try_from = "String")]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads the key from a request, which must have exactly one.
    pub fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let mut keys = request.headers().get_all("idempotency-key");
        match (keys.next(), keys.next()) {
            (Some(key), None) => key.to_str().ok().and_then(|key| Self::new(key).ok()),
            _ => None,
        }
        .ok_or_else(|| {
            Problem::invalid_field(
                "header Idempotency-Key",
                "must be given once, with 1 to 128 visible ASCII characters, new for each request",
            )
        })
    }

    fn new(key: &str) -> Result<Self, &'static str> {
        if (1..=128).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(key.to_owned()))
        } else {
            Err("an idempotency key has 1 to 128 visible ASCII characters")
        }
    }

    /// Returns the key's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<IdempotencyKey> for String {
    fn from(IdempotencyKey(key): IdempotencyKey) -> Self {
        key
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = &'static str;

    fn try_from(key: String) -> Result<Self, Self::Error> {
        Self::new(&key)
    }
}
