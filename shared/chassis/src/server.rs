//! The HTTP server: every request is traced, counted, whole and bounded before a handler sees it.

mod arriving;
mod methods;
mod observe;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, HttpMessage, HttpServer, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServerHandle, ServiceRequest, ServiceResponse},
    error::Error,
    middleware::{Next, from_fn},
    web,
};
use holdfast::deadline;
use metrics::{Unit, counter, describe_counter};
use tokio::{runtime::Handle, sync::Semaphore, task::JoinHandle, time::timeout};
use tracing::warn;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use self::{
    arriving::{Arriving, Patience},
    methods::{Paths, nothing_here},
    observe::{is_ours, observe},
};
use crate::{
    database::Look,
    demo::Faults,
    health,
    http::{DESTINATION, Problem, USUAL_TIME},
    openapi::Part,
    settings::HttpSettings,
};

/// The limits of a request.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// The most bytes of its body.
    body: usize,
    /// The time until its body has arrived.
    body_time: Duration,
    /// The time from then on.
    time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 65_536,
            body_time: Duration::from_secs(5),
            time: USUAL_TIME,
        }
    }
}

/// The state that all workers of a server share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) health: health::Health,
    pub(crate) verifier: crate::identity::Verifier,
    pub(crate) openapi: OpenApi,
    /// Patterns of paths that have a `GET` and are not in the document.
    pub(crate) pages: &'static [&'static str],
    pub(crate) faults: Faults,
    /// The name of this service.
    pub(crate) name: Name,
}

/// A service's name, in a type of its own so that handlers can extract it.
#[derive(Clone, Copy)]
pub(crate) struct Name(pub(crate) &'static str);

/// A server that accepts connections.
pub(crate) struct Serving {
    handle: ServerHandle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Serving {
    /// Stops accepting connections, and waits for the requests in progress. Abandons them after `patience`.
    pub(crate) async fn stop(self, patience: Duration) {
        if timeout(patience, self.handle.stop(true)).await.is_err() {
            warn!("abandoned the requests in progress");
        }
        self.task.abort();
    }
}

/// Serves the routes of `parts`, and the documentation that every service has.
pub(crate) fn serve(
    listener: TcpListener,
    settings: &HttpSettings,
    shared: Shared,
    parts: Vec<Part>,
) -> std::io::Result<Serving> {
    let limits = web::Data::new(Limits {
        body: settings.http_max_body_bytes as usize,
        body_time: settings.body_timeout(),
        time: settings.request_timeout(),
    });
    let arriving = web::Data::new(Arriving::new(
        settings.http_max_arriving_per_client,
        settings.http_max_arriving,
    ));
    let permits = web::Data::new(Semaphore::new(settings.http_max_concurrent as usize));
    let health = web::Data::new(shared.health);
    let verifier = web::Data::new(shared.verifier);
    let openapi = shared.openapi;
    let faults = web::Data::new(shared.faults);
    let name = web::Data::new(shared.name);
    let paths = web::Data::new(Paths::new(&openapi, shared.pages));
    let home = web::Data::new(Handle::current());
    describe_metrics();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(limits.clone())
            .app_data(permits.clone())
            .app_data(arriving.clone())
            .app_data(health.clone())
            .app_data(verifier.clone())
            .app_data(paths.clone())
            .app_data(home.clone())
            .app_data(faults.clone())
            .app_data(name.clone())
            .wrap(from_fn(bound))
            .wrap(from_fn(observe))
            .configure(|config| parts.iter().for_each(|part| part.serve(config)))
            .service(documentation(openapi.clone()))
            .route(
                "/docs",
                web::get().to(async || web::Redirect::to("/docs/").permanent()),
            )
            .default_service(web::to(nothing_here))
    })
    .workers(settings.http_workers.into())
    .worker_max_blocking_threads(1)
    // Against slow clients: the head within 5 s; the body within a time of its own (`arriving`).
    .client_request_timeout(Duration::from_secs(5))
    .client_disconnect_timeout(Duration::from_secs(1))
    .shutdown_timeout(10)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(Serving {
        handle: server.handle(),
        task: tokio::spawn(server),
    })
}

/// Returns the page that shows the document and tries its operations, and the document itself.
fn documentation(openapi: OpenApi) -> SwaggerUi {
    // Relative to the page: so it also works behind a front door, which puts a prefix before the path.
    let config = utoipa_swagger_ui::Config::new(["../openapi.json"])
        .persist_authorization(true)
        .try_it_out_enabled(true);
    SwaggerUi::new("/docs/{_:.*}")
        .config(config)
        .url("/openapi.json", openapi)
}

/// Describes each metric, for readers of `/metrics`.
fn describe_metrics() {
    arriving::describe();
    observe::describe_metrics();
    describe_counter!(
        "http_requests_refused_total",
        Unit::Count,
        "Whole requests that were answered 503 at once, because too many were in progress"
    );
    counter!("http_requests_refused_total").increment(0);
    describe_counter!(
        "http_requests_misdirected_total",
        Unit::Count,
        "Requests that were answered 503 at once, because they were meant for another service"
    );
    counter!("http_requests_misdirected_total").increment(0);
}

/// Waits until a request is whole; then bounds the number of requests in progress, and the time that each takes.
async fn bound(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if is_ours(request.path()) {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let refuse = |request: ServiceRequest, problem: Problem| {
        Ok(request.into_response(problem.error_response()))
    };
    if let Some(problem) = misdirected(&request) {
        counter!("http_requests_misdirected_total").increment(1);
        return refuse(request, problem);
    }
    let limits = request
        .app_data::<web::Data<Limits>>()
        .map(|limits| ***limits)
        .unwrap_or_default();
    let patience = Patience::of(&request, limits.body_time + limits.time);
    if let Err(problem) = arriving::receive(&mut request, limits, patience).await {
        return refuse(request, problem);
    }
    let permits = request
        .app_data::<web::Data<Semaphore>>()
        .map(|permits| Arc::clone(permits));
    let Some(permits) = permits else {
        return refuse(request, Problem::internal("the server has no semaphore"));
    };
    let Ok(_permit) = permits.try_acquire() else {
        counter!("http_requests_refused_total").increment(1);
        let busy = Problem::unavailable("too many requests are in progress")
            .retry_after(Duration::from_secs(1));
        return refuse(request, busy);
    };
    let (deadline, allowed) = patience.within(limits.time);
    request.extensions_mut().insert(deadline);
    let health = request
        .app_data::<web::Data<health::Health>>()
        .map(|health| Arc::clone(health));
    let faults = request
        .app_data::<web::Data<Faults>>()
        .map(|faults| Faults::clone(faults));
    let answer = async {
        if let Some(faults) = faults {
            faults.strike(request.path()).await?;
        }
        next.call(request).await
    };
    match deadline.run(answer).await {
        Ok(response) => {
            let response = response?.map_into_boxed_body();
            let look = health.as_ref().and_then(|health| health.database());
            Ok(explained(response, look).await)
        }
        Err(deadline::Exceeded) => {
            Err(Problem::unavailable(format!("no answer within {allowed}")).into())
        }
    }
}

/// Counts the trouble with the database that a response reports, if any. Returns another response in its place if a
/// look at the database shows more than the error did.
async fn explained(
    response: ServiceResponse<BoxBody>,
    look: Option<&Look>,
) -> ServiceResponse<BoxBody> {
    let problem = response.response().error();
    let problem = problem.and_then(|error| error.as_error::<Problem>());
    let explained = match problem {
        Some(problem) => problem.explained(look).await,
        None => None,
    };
    match explained {
        Some(problem) => response.into_response(problem.error_response()),
        None => response,
    }
}

/// Returns the problem of a request that is meant for another service. Not 421, which is the status for it (RFC 9110,
/// 15.5.20): customers' clients know to repeat after a 503.
fn misdirected(request: &ServiceRequest) -> Option<Problem> {
    let meant = request.headers().get(DESTINATION)?;
    let Name(name) = ***request.app_data::<web::Data<Name>>()?;
    (meant != name).then(|| {
        Problem::unavailable(format!(
            "this is {name}, and the request is meant for another service; its address is looked up again soon"
        ))
        .retry_after(Duration::from_secs(1))
    })
}
