//! Calls to another service: within the caller's deadline, in the caller's trace, under our own token.
//!
//! A service of ours is called directly, whatever `HTTP_PROXY` says: it is in the same private network, and a proxy
//! that is meant for the internet may not reach it. Services of others are called through the proxy that the
//! environment names ([`Client::outside`]).

use std::{path::PathBuf, time::Duration};

use holdfast::{
    deadline::{self, Deadline},
    retry::{Advice, Retryable},
    telemetry::{self, TraceContext},
};
pub use reqwest::RequestBuilder;
use reqwest::{StatusCode, header};
use serde::de::DeserializeOwned;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tracing::{Instrument, info_span};

use crate::http::DESTINATION;

/// A client for one other service.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    /// The service's name; its address is `base`.
    service: &'static str,
    base: String,
    token: TokenFile,
}

/// A file that holds our service token. The issuer rewrites it before the old token expires.
#[derive(Clone, Debug)]
pub struct TokenFile(PathBuf);

impl TokenFile {
    /// Returns the token file at `path`, without reading it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Reads the token from the file, again for each call: the file is small, and its token is renewed while we run.
    /// Fails with [`Error::Token`]. Cancel safe.
    pub async fn read(&self) -> Result<String, Error> {
        let token = tokio::fs::read_to_string(&self.0)
            .await
            .map_err(|error| Error::Token(format!("{}: {error}", self.0.display())))?;
        Ok(token.trim().to_owned())
    }
}

/// A call without a successful response.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The service refused the request, and would refuse it again: give up.
    #[error("{service} answered {status}: {body}")]
    Refused {
        /// The service that was called.
        service: String,
        /// The status that it answered with.
        status: StatusCode,
        /// The body of its response.
        body: String,
    },
    /// The service cannot serve the request now; `retry_after` is the wait that its response names. Try again, if the
    /// call is safe to repeat.
    #[error("{service} is not available ({status})")]
    Unavailable {
        /// The service that was called.
        service: String,
        /// The status that it answered with.
        status: StatusCode,
        /// The time after which to call again, if the service gave one.
        retry_after: Option<Duration>,
    },
    /// There was no connection, or it broke. Try again, if the call is safe to repeat.
    #[error("{service} cannot be reached: {source}")]
    Unreachable {
        /// The service that was called.
        service: String,
        /// The client's error, without the URL.
        #[source]
        source: reqwest::Error,
    },
    /// The response did not come in time. The request may have taken effect.
    #[error(transparent)]
    Late(#[from] deadline::Exceeded),
    /// The service token could not be read.
    #[error("no service token: {0}")]
    Token(String),
}

impl Retryable for Error {
    /// Returns the advice for calls that are safe to repeat.
    fn advice(&self) -> Advice {
        match self {
            Self::Refused { .. } | Self::Late(_) => Advice::Never,
            Self::Unavailable {
                retry_after: Some(after),
                ..
            } => Advice::After(*after),
            Self::Unavailable {
                retry_after: None, ..
            }
            | Self::Unreachable { .. }
            | Self::Token(_) => Advice::Backoff,
        }
    }
}

impl Client {
    /// Makes a client for one of our own services, called `service`, at `base` (`http://host:port`). It uses no proxy.
    pub fn new(
        service: &'static str,
        base: &str,
        token: TokenFile,
    ) -> Result<Self, reqwest::Error> {
        Self::build(reqwest::Client::builder().no_proxy(), service, base, token)
    }

    /// Makes a client for a service of others: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` are obeyed.
    pub fn outside(
        service: &'static str,
        base: &str,
        token: TokenFile,
    ) -> Result<Self, reqwest::Error> {
        Self::build(reqwest::Client::builder(), service, base, token)
    }

    fn build(
        http: reqwest::ClientBuilder,
        service: &'static str,
        base: &str,
        token: TokenFile,
    ) -> Result<Self, reqwest::Error> {
        let http = http
            .connect_timeout(Duration::from_secs(1))
            // Sooner than servers close idle connections (actix after 5 s): otherwise a request could be sent while its
            // connection is being closed.
            .pool_idle_timeout(Duration::from_secs(3))
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            http,
            service,
            base: base.trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// Begins a request to `path`, to be finished and given to [`Self::send`].
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base))
    }

    /// Sends a request and decodes the response, all by `deadline`. The time that is left is sent along in a header.
    ///
    /// Dropping the future, like [`Error::Late`], leaves the outcome unknown.
    pub async fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        deadline: Deadline,
    ) -> Result<T, Error> {
        // The name, and no URL: errors are kept and shown, and the address is in the span.
        let service = || self.service.to_owned();
        let (http, request) = request.build_split();
        let unreachable = |source: reqwest::Error| Error::Unreachable {
            service: service(),
            source: source.without_url(),
        };
        let request = request.map_err(unreachable)?;
        let span = span_of(&request);
        let called = span.clone();
        let call = async {
            let request = RequestBuilder::from_parts(http, request)
                .header(
                    header::AUTHORIZATION,
                    format!("Bearer {}", self.token.read().await?),
                )
                .header(DESTINATION, self.service)
                .header(deadline::HEADER, deadline.header_value()?);
            let response = traced(request).send().await.map_err(unreachable)?;
            let status = response.status();
            let code = i64::from(status.as_u16());
            telemetry::attribute(&called, "http.response.status_code", code);
            if status.is_success() {
                return response.json().await.map_err(unreachable);
            }
            if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                return Err(Error::Unavailable {
                    service: service(),
                    status,
                    retry_after: retry_after(response.headers()),
                });
            }
            let body = response.text().await.map_err(unreachable)?;
            Err(Error::Refused {
                service: service(),
                status,
                body,
            })
        };
        let answer = deadline.run(call.instrument(span.clone())).await;
        let answer = answer.unwrap_or_else(|late| Err(late.into()));
        if let Err(error) = &answer {
            telemetry::fail(&span, error.kind(), error);
        }
        answer
    }
}

/// Returns the wait that a response's `Retry-After` names: in seconds, or until a date (RFC 9110, 10.2.3), which is by
/// the server's clock and so is compared with the response's own `Date`.
pub fn retry_after(headers: &header::HeaderMap) -> Option<Duration> {
    let text = |name: header::HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    let asked = text(header::RETRY_AFTER)?;
    if let Ok(seconds) = asked.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| OffsetDateTime::parse(text, &Rfc2822).ok();
    let wait = date(asked)? - date(text(header::DATE)?)?;
    Some(wait.try_into().unwrap_or(Duration::ZERO))
}

impl Error {
    /// Returns the wait that the service's response named, if it named one.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Returns the status, or a word in its place, for traces.
    fn kind(&self) -> String {
        match self {
            Self::Refused { status, .. } | Self::Unavailable { status, .. } => {
                status.as_u16().to_string()
            }
            Self::Unreachable { .. } => "unreachable".to_owned(),
            Self::Late(_) => "timeout".to_owned(),
            Self::Token(_) => "no_token".to_owned(),
        }
    }
}

/// Adds the current span's position in its trace to a request.
pub fn traced(request: RequestBuilder) -> RequestBuilder {
    telemetry::trace_context()
        .iter()
        .flat_map(TraceContext::headers)
        .fold(request, |request, (name, value)| {
            request.header(name, value)
        })
}

/// Makes the span of a request that is about to be sent. Paths have ids in them, so it is named by the method alone.
fn span_of(request: &reqwest::Request) -> tracing::Span {
    let (method, url) = (request.method().as_str(), request.url());
    let server = url.host_str().unwrap_or_default();
    let span = info_span!(
        "call",
        otel.kind = "client",
        http.request.method = method,
        server.address = server,
    );
    telemetry::rename(&span, || method.to_owned());
    telemetry::attributes(&span, || {
        [
            ("url.full", url.to_string().into()),
            (
                "server.port",
                i64::from(url.port_or_known_default().unwrap_or_default()).into(),
            ),
        ]
    });
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let after = |retry: &str, date: Option<&str>| {
            let mut headers = header::HeaderMap::new();
            headers.insert(header::RETRY_AFTER, retry.parse().expect("a value"));
            if let Some(date) = date {
                headers.insert(header::DATE, date.parse().expect("a value"));
            }
            retry_after(&headers)
        };
        let date = Some("Wed, 21 Oct 2015 07:28:00 GMT");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (retry, date, wanted) in [
            ("120", None, seconds(120)),
            ("0", date, seconds(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", date, seconds(30)),
            ("Wed, 21 Oct 2015 07:27:30 GMT", date, seconds(0)),
            ("Wed, 21 Oct 2015 07:28:30 GMT", None, None),
            ("soon", date, None),
            ("-1", date, None),
        ] {
            assert_eq!(after(retry, date), wanted, "{retry:?}");
        }
        assert_eq!(retry_after(&header::HeaderMap::new()), None);
    }
}
