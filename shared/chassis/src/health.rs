//! Health: the liveness of the process, and its readiness for work.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use actix_web::{HttpResponse, get, web};
use futures_util::future::join_all;
use holdfast::messaging::Link;
use serde::Serialize;
use tokio::{
    sync::{Mutex, watch},
    time::{Instant, timeout},
};
use utoipa::ToSchema;

use crate::{database::Look, openapi::Routes};

/// The time for which the result of all checks is valid. Readiness needs no token, so frequent requests must not make
/// work.
const FRESH: Duration = Duration::from_secs(1);

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// The dependencies that a service needs to do its work, and a check for each.
///
/// Concurrent requests share one run of the checks: its result is valid for a second, and requests during the run wait
/// for it.
#[derive(Clone, Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
    /// The database, if there is one; also used to distinguish a busy pool from an unavailable server.
    database: Option<Look>,
    /// The time and the result of the last run. A tokio Mutex, held during a run: requests meanwhile wait for its
    /// result.
    last: Arc<Mutex<Option<(Instant, Readiness)>>>,
}

impl Health {
    /// Adds a check, which has two seconds to return.
    #[must_use]
    pub fn with<F>(
        mut self,
        name: &'static str,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = bool> + Send + 'static,
    {
        self.checks
            .push((name, Arc::new(move || Box::pin(check()))));
        self
    }

    /// Adds a check that the database answers and takes writes. A busy pool is ready: the server is available.
    #[must_use]
    pub fn with_database(mut self, look: Look) -> Self {
        self.database = Some(look.clone());
        self.with("database", move || {
            let look = look.clone();
            async move { look.is_well().await }
        })
    }

    /// Returns the look at the database.
    pub(crate) fn database(&self) -> Option<&Look> {
        self.database.as_ref()
    }

    /// Adds a check that the broker is connected.
    #[must_use]
    pub fn with_link(self, name: &'static str, link: Link) -> Self {
        self.with(name, move || std::future::ready(link.is_up()))
    }

    /// Adds a check that the flag is set.
    #[must_use]
    pub fn with_flag(self, name: &'static str, flag: watch::Receiver<bool>) -> Self {
        self.with(name, move || std::future::ready(*flag.borrow()))
    }

    /// Returns the state of all checks: that of the last run, if it is fresh.
    ///
    /// Cancel safe: the next caller runs the checks.
    async fn check(&self) -> Readiness {
        let mut last = self.last.lock().await;
        if let Some((at, readiness)) = &*last
            && at.elapsed() < FRESH
        {
            return readiness.clone();
        }
        let readiness = self.look().await;
        *last = Some((Instant::now(), readiness.clone()));
        readiness
    }

    async fn look(&self) -> Readiness {
        let answers = self.checks.iter().map(|(name, check)| async move {
            let up = timeout(Duration::from_secs(2), check())
                .await
                .unwrap_or(false);
            ((*name).to_owned(), if up { "up" } else { "down" })
        });
        let checks: BTreeMap<String, &'static str> = join_all(answers).await.into_iter().collect();
        let status = if checks.values().all(|check| *check == "up") {
            "ready"
        } else {
            "not ready"
        };
        Readiness { status, checks }
    }
}

/// Adds the routes of health and metrics.
pub(crate) fn routes(routes: &mut Routes) {
    routes.service(live).service(ready).service(metrics);
}

/// The liveness of the process.
#[derive(Debug, Serialize, ToSchema)]
struct Liveness {
    /// Always the text `live`.
    status: &'static str,
}

/// The readiness of the service for its work.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not ready`.
    status: &'static str,
    /// Each dependency that it needs: `up` or `down`.
    checks: BTreeMap<String, &'static str>,
}

/// Answers 200 while the process lives. Restart it if it does not answer.
#[utoipa::path(tag = "health", security(()), responses((status = 200, body = Liveness)))]
#[get("/health/live")]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { status: "live" })
}

/// Answers 200 while the service can do its work. Send it no requests while it cannot.
#[utoipa::path(tag = "health", security(()), responses(
    (status = 200, description = "It is ready.", body = Readiness),
    (status = 503, description = "It is not ready; `checks` says what is down.", body = Readiness),
))]
#[get("/health/ready")]
pub(crate) async fn ready(health: web::Data<Health>) -> HttpResponse {
    let readiness = health.check().await;
    let mut response = if readiness.status == "ready" {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    response.json(readiness)
}

/// Returns the process's metrics in Prometheus' text format.
#[utoipa::path(tag = "health", security(()), responses(
    (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
))]
#[get("/metrics")]
pub(crate) async fn metrics() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(holdfast::telemetry::render_metrics())
}
