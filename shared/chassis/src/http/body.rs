//! Extractors that answer a wrong request with the field that is wrong and the limit that it should keep.

use std::{future::Future, pin::Pin, time::Duration};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};
use futures_util::StreamExt;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Problem, server::Limits};
use crate::events::from_json;

/// A JSON body. Wrong ones are answered 400, 408, 413, 415 or 422.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let limits = request
            .app_data::<web::Data<Limits>>()
            .map(|limits| ***limits)
            .unwrap_or_default();
        let content_type = request.content_type().to_owned();
        let declared = request
            .headers()
            .get("content-length")
            .and_then(|n| n.to_str().ok()?.parse::<u64>().ok());
        let payload = payload.take();
        Box::pin(async move {
            if content_type != "application/json" {
                return Err(Problem::unsupported_media_type(format!(
                    "the body must be application/json, not {content_type:?}"
                )));
            }
            if declared.is_some_and(|declared| declared > limits.body as u64) {
                return Err(too_large(limits.body));
            }
            let body = timeout(limits.time, read(payload, limits.body))
                .await
                .map_err(|_| {
                    Problem::timeout(format!(
                        "the body did not arrive within {} ms",
                        limits.time.as_millis()
                    ))
                })??;
            parse(&body).map(Self)
        })
    }
}

async fn read(mut payload: Payload, limit: usize) -> Result<Vec<u8>, Problem> {
    let mut body = Vec::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
        if body.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn too_large(limit: usize) -> Problem {
    Problem::too_large(format!("a body may have {limit} bytes"))
}

/// What is no JSON at all is a bad request; JSON that does not fit is a wrong field.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = str::from_utf8(body).map_err(|error| {
        Problem::bad_request(format!(
            "the body is not UTF-8: wrong byte after {}",
            error.valid_up_to()
        ))
    })?;
    from_json(text.as_bytes()).map_err(|error| {
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Err(syntax) => Problem::bad_request(format!("the body is not JSON: {syntax}")),
            Ok(_) => match error.split_once(": ") {
                Some((field, detail)) if !field.contains(' ') => {
                    Problem::invalid_field(field, detail)
                }
                _ => Problem::invalid_field("body", error),
            },
        }
    })
}

/// The one segment of the path that is an id. What is no UUID is the id of nothing: 404.
#[derive(Clone, Copy, Debug)]
pub struct PathId(pub Uuid);

impl FromRequest for PathId {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request
            .match_info()
            .iter()
            .next()
            .and_then(|(_, segment)| segment.parse().ok());
        std::future::ready(
            id.map(Self)
                .ok_or_else(|| Problem::not_found("the id in the path is no UUID")),
        )
    }
}

/// The query string, with unknown parameters refused (where the type says so) and wrong ones named.
#[derive(Debug)]
pub struct QueryString<T>(pub T);

impl<T: DeserializeOwned> FromRequest for QueryString<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = web::Query::<T>::from_query(request.query_string());
        std::future::ready(
            query
                .map(|query| Self(query.into_inner()))
                .map_err(|error| Problem::invalid_field("query", error)),
        )
    }
}

/// How many entries of a list are asked for: 1 to 200, or 50 if nobody says.
pub fn page_size(limit: Option<i64>) -> Result<i64, Problem> {
    let limit = limit.unwrap_or(50);
    if (1..=200).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::invalid_field(
            "query limit",
            "must be from 1 to 200",
        ))
    }
}

/// A page of `limit` entries, and what `next` says of its last one if there are more. `found` is one entry more than the page
/// has, where there are so many.
pub fn page_of<T, N>(
    mut found: Vec<T>,
    limit: i64,
    next: impl FnOnce(&T) -> N,
) -> (Vec<T>, Option<N>) {
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = found.len() > size;
    found.truncate(size);
    let next = found.last().filter(|_| more).map(next);
    (found, next)
}

/// Why an operator does something: 1 to 500 characters, none of them a control character. It is kept for ever.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
#[serde(try_from = "String")]
pub struct Note(String);

impl Note {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Note {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let length = text.chars().count();
        if (1..=500).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err("a note has 1 to 500 characters, and no control characters")
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 65_536,
            time: Duration::from_secs(5),
        }
    }
}
