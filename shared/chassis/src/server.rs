//! The HTTP server: every request is traced, counted, whole and bounded before a handler sees it.

mod arriving;
mod methods;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, HttpMessage, HttpServer, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServerHandle, ServiceRequest, ServiceResponse},
    error::Error,
    http::{StatusCode, header},
    middleware::{Next, from_fn},
    web,
};
use holdfast::{
    deadline,
    telemetry::{self, TRACEPARENT, TRACESTATE, TraceContext},
};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use tokio::{
    runtime::Handle,
    sync::Semaphore,
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::context::TokioContext;
use tracing::{Instrument, Span, field::Empty, info_span, warn};
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::SwaggerUi;

use self::{
    arriving::{Arriving, Patience},
    methods::{Paths, nothing_here},
};
use crate::{
    database::Look,
    demo::Faults,
    health,
    http::{DESTINATION, PROBLEM, Problem, USUAL_TIME},
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

/// Returns whether a path must be answered always, even by a busy server, and costs nothing to answer.
fn is_ours(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics"
}

/// Traces and counts a request, and gives every error the form of a [`Problem`].
async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begun = Instant::now();
    let quiet = is_ours(request.path());
    let method = method_label(&request);
    let is_head = methods::head_as_get(&mut request);
    let span = if quiet {
        Span::none()
    } else {
        span_of(&request, &method)
    };
    let home = request
        .app_data::<web::Data<Handle>>()
        .map(|home| home.as_ref().clone());
    // Nothing else may hold a reference to the request meanwhile: the router needs it exclusively.
    let answer = next.call(request).instrument(span.clone());
    // A worker thread has a runtime of its own, which ends with it. Resources that a handler opens or spawns (a
    // connection of the pool, above all) are shared, so they belong to the runtime that outlives the workers.
    let answer = match home {
        Some(home) => TokioContext::new(answer, home).await,
        None => answer.await,
    };
    let answer = answer.map(|response| {
        let response = as_problem(response.map_into_boxed_body());
        if is_head {
            methods::without_body(response)
        } else {
            response
        }
    });
    if !quiet {
        record(&span, method, &answer, begun);
    }
    answer
}

/// Returns a request's method as a label. Clients can invent methods, and a label for each of them would fill the
/// memory.
fn method_label(request: &ServiceRequest) -> String {
    match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known,
        _ => "other",
    }
    .to_owned()
}

/// Begins the span of a request, in its caller's trace.
fn span_of(request: &ServiceRequest, method: &str) -> Span {
    let span = info_span!(
        "request",
        otel.kind = "server",
        http.request.method = method,
        url.path = request.path(),
        trace_id = Empty
    );
    let values = |name| {
        request
            .headers()
            .get_all(name)
            .map(header::HeaderValue::as_bytes)
    };
    let caller = TraceContext::read(values(TRACEPARENT), values(TRACESTATE));
    telemetry::adopt(&span, caller.as_ref());
    telemetry::attributes(&span, || {
        [(
            "url.scheme",
            request.connection_info().scheme().to_owned().into(),
        )]
    });
    span
}

/// Describes an answer in its request's span, and counts it.
fn record(
    span: &Span,
    method: String,
    answer: &Result<ServiceResponse<BoxBody>, Error>,
    begun: Instant,
) {
    let (route, status) = match answer {
        Ok(response) => (response.request().match_pattern(), response.status()),
        Err(error) => (None, error.as_response_error().status_code()),
    };
    describe(span, &method, route.as_deref(), status);
    let class = class(status);
    let (route, status) = (
        route.unwrap_or_else(|| "none".to_owned()),
        status.as_u16().to_string(),
    );
    counter!("http_requests_total", "method" => method.clone(), "route" => route.clone(), "status" => status)
        .increment(1);
    histogram!(
        "http_request_duration_seconds",
        "method" => method, "route" => route, "class" => class
    )
    .record(begun.elapsed());
}

/// Returns the class of a status. It is a label, because responses that fail fast would make the others look faster
/// than they are.
fn class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

/// Describes each metric, for readers of `/metrics`.
fn describe_metrics() {
    arriving::describe();
    describe_counter!(
        "http_requests_total",
        Unit::Count,
        "Requests that were answered; those for health and metrics are not counted"
    );
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
    describe_histogram!(
        "http_request_duration_seconds",
        Unit::Seconds,
        "From a request's head to its answer's head, by class of status"
    );
}

/// Sets the attributes of a request's span that were not known when it began.
fn describe(span: &Span, method: &str, route: Option<&str>, status: StatusCode) {
    let code = i64::from(status.as_u16());
    telemetry::attribute(span, "http.response.status_code", code);
    if let Some(route) = route {
        telemetry::attribute(span, "http.route", route.to_owned());
    }
    telemetry::rename(span, || match route {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    });
    // By OpenTelemetry's convention a client's mistake is not a failure of the server.
    if status.is_server_error() {
        telemetry::fail(span, status.as_str(), "");
    }
}

/// Turns an error that the framework itself answers (a wrong path, a wrong method) into a problem like every other.
fn as_problem(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    let is_problem = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| {
            [PROBLEM, "application/json"]
                .iter()
                .any(|json| kind == json)
        });
    if !(status.is_client_error() || status.is_server_error()) || is_problem {
        return response;
    }
    response.into_response(Problem::from_status(status).error_response())
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

/// Counts the trouble with the database that a response reports, if any. Returns another response in its place if a look
/// at the database shows more than the error did.
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
