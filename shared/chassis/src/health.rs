//! Health: whether the process lives, and whether it can do its work.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use actix_web::{HttpResponse, get, web};
use futures_util::future::join_all;
use holdfast::messaging::Link;
use serde::Serialize;
use sqlx::PgPool;
use tokio::{sync::watch, time::timeout};
use utoipa::ToSchema;

use crate::openapi::Routes;

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What a service needs to do its work, and how to ask whether it is there.
#[derive(Clone, Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
}

impl Health {
    /// Adds a check; it has a second to answer.
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

    /// Ready while the database answers.
    #[must_use]
    pub fn with_database(self, pool: PgPool) -> Self {
        self.with("database", move || {
            let pool = pool.clone();
            async move { sqlx::query("select 1").execute(&pool).await.is_ok() }
        })
    }

    /// Ready while the broker is connected.
    #[must_use]
    pub fn with_link(self, name: &'static str, link: Link) -> Self {
        self.with(name, move || std::future::ready(link.is_up()))
    }

    /// Ready once the flag is set.
    #[must_use]
    pub fn with_flag(self, name: &'static str, flag: watch::Receiver<bool>) -> Self {
        self.with(name, move || std::future::ready(*flag.borrow()))
    }

    async fn check(&self) -> Readiness {
        let answers = self.checks.iter().map(|(name, check)| async move {
            let up = timeout(Duration::from_secs(1), check())
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

/// Adds what every service's API has.
pub(crate) fn routes(routes: &mut Routes) {
    routes.service(live).service(ready).service(metrics);
}

/// The process lives.
#[derive(Debug, Serialize, ToSchema)]
struct Liveness {
    /// `live`.
    status: &'static str,
}

/// Whether the service can do its work now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not ready`.
    status: &'static str,
    /// Each thing it needs: `up` or `down`.
    checks: BTreeMap<String, &'static str>,
}

/// Whether the process lives. It says so as long as it can answer: restart it if it does not.
#[utoipa::path(tag = "health", security(()), responses((status = 200, body = Liveness)))]
#[get("/health/live")]
pub(crate) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Liveness { status: "live" })
}

/// Whether the service can do its work: send it none while it is not.
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

/// The process's metrics in Prometheus' text format.
#[utoipa::path(tag = "health", security(()), responses(
    (status = 200, description = "The metrics.", body = String, content_type = "text/plain"),
))]
#[get("/metrics")]
pub(crate) async fn metrics() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(holdfast::telemetry::render_metrics())
}
