//! Extractors that answer an invalid request with the field that is wrong and the limit that it should keep.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, http::header, web::BytesMut};
use futures_util::TryStreamExt;
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Problem;
use crate::wording::{from_json, from_query};

/// A JSON body. An invalid one is answered 400, 415 or 422; late and large ones never get here.
#[derive(Debug)]
pub struct JsonBody<T>(pub T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        if let Err(problem) = is_plain_json(request) {
            return Box::pin(std::future::ready(Err(problem)));
        }
        let payload = payload.take();
        Box::pin(async move {
            // The body is in memory, and within its limit: the server admits a request only when it is whole.
            let body = payload.try_fold(BytesMut::new(), |mut body, chunk| async move {
                body.extend_from_slice(&chunk);
                Ok(body)
            });
            let body = body
                .await
                .map_err(|error| Problem::bad_request(format!("the body broke off: {error}")))?;
            parse(&body).map(Self)
        })
    }
}

/// Refuses a body of another type, or one that is encoded (compressed). Names of types and encodings are
/// case-insensitive.
fn is_plain_json(request: &HttpRequest) -> Result<(), Problem> {
    let kind = request.content_type();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Problem::unsupported_media_type(format!(
            "the body must be application/json, not {kind:?}"
        )));
    }
    let encodings = request.headers().get_all(header::CONTENT_ENCODING);
    for encoding in encodings {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        if !encoding.trim().eq_ignore_ascii_case("identity") {
            return Err(Problem::unsupported_encoding(format!(
                "the body must be sent as it is, without the Content-Encoding {encoding:?}"
            )));
        }
    }
    Ok(())
}

/// Decodes a body. Text that is not JSON is a bad request; JSON that does not fit the type is an invalid field.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = str::from_utf8(body).map_err(|error| {
        Problem::bad_request(format!(
            "the body is not UTF-8: wrong byte after {}",
            error.valid_up_to()
        ))
    })?;
    from_json(text.as_bytes()).map_err(|error| {
        if let Err(syntax) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
            return Problem::bad_request(format!("the body is not JSON: {syntax}"));
        }
        let field = error.field.unwrap_or_else(|| "body".to_owned());
        Problem::invalid_field(field, error.detail)
    })
}

/// The first variable segment of the path, an id. A segment that is not a UUID is answered 404, as the id of nothing.
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
                .ok_or_else(|| Problem::not_found("the id in the path is not a UUID")),
        )
    }
}

/// The query string. Unknown parameters are refused (if the type denies them), and invalid ones are named.
#[derive(Debug)]
pub struct QueryString<T>(pub T);

impl<T: DeserializeOwned> FromRequest for QueryString<T> {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let query = from_query(request.query_string()).map(Self);
        std::future::ready(query.map_err(|wrong| {
            let field = match wrong.field {
                Some(field) => format!("query {field}"),
                None => "query".to_owned(),
            };
            Problem::invalid_field(field, wrong.detail)
        }))
    }
}

/// Returns the number of entries of a page: what a list request names, from 1 to 200, or 50 if it names none. Fails
/// with a 422.
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

/// Makes a 422 for a cursor whose entry does not exist, or no longer exists: an empty page would be taken for the last
/// one. `name` is the query parameter's.
pub fn unknown_cursor(name: &str) -> Problem {
    Problem::invalid_field(
        format!("query {name}"),
        "is not, or is no longer, an entry of this list: begin with the first page",
    )
}

/// Returns a page of at most `limit` entries, and `next` of its last entry if there are more. `found` has one entry
/// more than the page, if there are that many.
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

/// An operator's reason for an action: 1 to 500 characters, none of them a control character. It is kept for ever.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 500, pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$")]
#[serde(try_from = "String")]
pub struct Note(String);

impl Note {
    /// Returns the note's text.
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
