//! Health: whether the process lives, and whether it can do its work.

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

/// How long a look at everything is good. Readiness wants no token, so nobody may make work by asking for it often.
const FRESH: Duration = Duration::from_secs(1);

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// What a service needs to do its work, and how to ask whether it is there.
///
/// Asked for by many at a time it looks once: a look is good for a second, and all who ask meanwhile share it.
#[derive(Clone, Default)]
pub struct Health {
    checks: Vec<(&'static str, Check)>,
    /// The database, if there is one: also for telling a busy pool from a server that is away.
    database: Option<Look>,
    /// The last look. A tokio Mutex, held during a look: who comes meanwhile waits for its result.
    last: Arc<Mutex<Option<(Instant, Readiness)>>>,
}

impl Health {
    /// Adds a check; it has two seconds to answer.
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

    /// Ready while the database answers and writes. A pool that is busy is ready: it is not away.
    #[must_use]
    pub fn with_database(mut self, look: Look) -> Self {
        self.database = Some(look.clone());
        self.with("database", move || {
            let look = look.clone();
            async move { look.is_well().await }
        })
    }

    /// The look at the database.
    pub(crate) fn database(&self) -> Option<&Look> {
        self.database.as_ref()
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

    /// Returns how things stand: as of the last look, if that is fresh.
    ///
    /// Cancel safe: the next caller looks.
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
#[derive(Clone, Debug, Serialize, ToSchema)]
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
