//! A service under test, in this process.

use std::{future::Future, net::SocketAddr};

use chassis::identity::Role;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::Value;
use sqlx::PgPool;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Database, Vhost, client, eventually, token};

/// A service under test.
pub struct TestApp {
    /// The base URL of the service.
    pub url: String,
    address: SocketAddr,
    /// The service's own database.
    pub database: Database,
    /// A pool of connections to its database, for the test to look.
    pub pool: PgPool,
    http: reqwest::Client,
    shutdown: CancellationToken,
    task: Option<JoinHandle<anyhow::Result<()>>>,
    /// Set if the end of the test is to check that the service left nothing undone.
    expects_calm: bool,
}

/// An HTTP response.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body; null if there is none, a string if it is not JSON.
    pub body: Value,
}

impl Answer {
    /// Returns a header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body if the status is this; panics with the body if it is not.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self.body
    }

    /// Checks that it is a problem of this status, of this kind, about this field; returns its detail.
    #[track_caller]
    pub fn expect_problem(self, status: u16, kind: &str, field: Option<&str>) -> String {
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{self:?}"
        );
        let body = self.expect(status);
        assert_eq!(
            body["type"],
            format!("urn:holdfast:problem:{kind}"),
            "{body}"
        );
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["errors"][0]["field"].as_str(), field, "{body}");
        body["detail"].as_str().unwrap_or_default().to_owned()
    }
}

/// Returns the arguments that every service takes, for a test.
pub fn arguments(service: &str, database_url: &str) -> Vec<String> {
    let jwks = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../deploy/development/jwks.json"
    );
    [
        service,
        "--http-listen=127.0.0.1:0",
        "--http-workers=1",
        "--database-max-connections=6",
        "--database-acquire-timeout-ms=1500",
        &format!("--database-url={database_url}"),
        &format!("--jwks={jwks}"),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Returns the arguments that every service with messages takes.
pub fn broker_arguments(vhost: &Vhost, user: &str) -> Vec<String> {
    vec![format!("--amqp-url={}", vhost.url(user))]
}

impl TestApp {
    /// Runs a service that listens on `address`, and waits until it is ready.
    pub async fn start<F>(
        address: SocketAddr,
        database: Database,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Self
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(shutdown.clone()));
        let app = Self {
            address,
            url: format!("http://{address}"),
            pool: database.pool(),
            database,
            http: client(),
            shutdown,
            task: Some(task),
            expects_calm: true,
        };
        app.wait_ready().await;
        app
    }

    /// Waits until it is ready.
    pub async fn wait_ready(&self) {
        eventually("the service is ready", || async {
            match self
                .http
                .get(format!("{}/health/ready", self.url))
                .send()
                .await
            {
                Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
                Ok(answer) => Err(answer.text().await.unwrap_or_default()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await;
    }

    /// Returns the address on which it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Begins a request without a token.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Begins a request as this customer.
    pub fn as_customer(&self, name: &str, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path)
            .bearer_auth(token(name, Role::Customer))
    }

    /// Begins a request as an operator.
    pub fn as_operator(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path)
            .bearer_auth(token("olga", Role::Operator))
    }

    /// Begins a request as a service.
    pub fn as_service(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path)
            .bearer_auth(token("tester", Role::Service))
    }

    /// Allows parked messages and rows in the outbox at the end of the test.
    pub fn expect_trouble(&mut self) {
        self.expects_calm = false;
    }

    /// Stops the service as SIGTERM does, and checks that its outbox is empty and nothing is parked.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await
                .expect("the service does not panic")
                .expect("the service stops in good order");
        }
        if !self.expects_calm {
            return;
        }
        let has_messages: bool = sqlx::query_scalar("select to_regclass('outbox') is not null")
            .fetch_one(&self.pool)
            .await
            .expect("the database answers");
        if has_messages {
            let left: Vec<(String, Option<String>)> =
                sqlx::query_as("select routing_key, last_error from outbox")
                    .fetch_all(&self.pool)
                    .await
                    .expect("the database answers");
            assert!(left.is_empty(), "left in the outbox: {left:?}");
            let parked: Vec<(String, Option<String>, String)> = sqlx::query_as(
                "select queue, kind, detail from parked_message where state = 'parked'",
            )
            .fetch_all(&self.pool)
            .await
            .expect("the database answers");
            assert!(parked.is_empty(), "parked: {parked:?}");
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let forgotten = self.task.is_some() && !std::thread::panicking();
        assert!(
            !forgotten,
            "a test ends with `app.stop().await`, which checks what it left"
        );
    }
}

/// Sends a request and reads the response.
pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("the service answers");
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await.expect("a body");
    let body = match text.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())),
    };
    Answer {
        status,
        headers,
        body,
    }
}
