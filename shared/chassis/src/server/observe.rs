//! The measuring of each request: a span, a count and a duration; and the one form of errors.

use actix_web::{
    ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::Error,
    http::{StatusCode, header},
    middleware::Next,
    web,
};
use holdfast::telemetry::{self, TRACEPARENT, TRACESTATE, TraceContext};
use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};
use tokio::{runtime::Handle, time::Instant};
use tokio_util::context::TokioContext;
use tracing::{Instrument, Span, field::Empty, info_span};

use super::methods;
use crate::http::{PROBLEM, Problem};

/// Returns true for health and metrics, which are answered even by a busy server and cost next to nothing.
pub(super) fn is_ours(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics"
}

/// Traces and counts a request, and gives every error the form of a [`Problem`].
pub(super) async fn observe(
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
pub(super) fn describe_metrics() {
    describe_counter!(
        "http_requests_total",
        Unit::Count,
        "Requests that were answered; those for health and metrics are not counted"
    );
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
