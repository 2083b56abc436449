//! # Telemetry: one story across processes
//!
//! **Problem.** An order hangs. Five services have logs; none of them says which of its ten thousand lines a minute are
//! about this order, or what came before them in the service next door.
//!
//! **Guarantee.** [`init`] gives the process structured logs (`tracing`), trace ids (OpenTelemetry) and Prometheus metrics.
//! [`traceparent`] and [`adopt`] carry the W3C trace context over anything that has text headers: HTTP requests, outbox
//! rows, AMQP messages, retries. A span that adopted a context logs its `trace_id`, so that one search finds one order's
//! lines in all services.
//!
//! **Not guaranteed.** That spans are kept: [`Traces::Console`] writes them to standard output, one JSON object a line, and
//! there is no other exporter yet. A trace is no substitute for the order's timeline, which is stored with the order.
//!
//! **States.** One global subscriber, one global metrics recorder, set once.
//!
//! **Failure modes.** A header that is no `traceparent` starts a new trace. A second [`init`] in one process is an error.
//!
//! ```
//! use holdfast::telemetry;
//!
//! let span = tracing::info_span!("handle", trace_id = tracing::field::Empty);
//! telemetry::adopt(&span, Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"));
//! let _entered = span.entered();
//! // What is called from here carries on the same trace.
//! let outgoing = telemetry::traceparent();
//! # assert_eq!(outgoing, None); // there is no subscriber in this example
//! ```
//!
//! **Copying this.** This folder, and the crates `metrics`, `metrics-exporter-prometheus`, `opentelemetry`,
//! `opentelemetry_sdk`, `serde_json`, `thiserror`, `tracing`, `tracing-opentelemetry`, `tracing-subscriber`.
//!
//! Sources: W3C, "Trace Context", 2021; Benjamin Sigelman and others, "Dapper", 2010.

mod console;

use std::{collections::HashMap, io::IsTerminal, sync::OnceLock};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::{
    propagation::TextMapPropagator,
    trace::{TraceContextExt, TracerProvider},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

/// The name of the header in HTTP, AMQP and outbox rows.
pub const TRACEPARENT: &str = "traceparent";

/// The buckets of every histogram that ends in `_seconds`: from half a millisecond to half a minute.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
];

/// The process's metrics; set once by [`init`].
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Where spans go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Traces {
    /// Nowhere: trace ids are made, logged and passed on all the same.
    #[default]
    None,
    /// To standard output, one JSON object a line.
    Console,
}

/// Telemetry could not be set up. Nothing else of the process is affected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not of the form `info,sqlx=warn`.
    #[error("the log filter {filter:?} is not valid: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// There is a subscriber or a recorder already.
    #[error("telemetry is set up already: {0}")]
    Twice(String),
}

/// Sets up logs, spans and metrics for this process. `filter` is of the form `info,sqlx=warn`.
pub fn init(
    service: &'static str,
    filter: &str,
    format: Format,
    traces: Traces,
) -> Result<(), Error> {
    let filter = EnvFilter::try_new(filter).map_err(|source| Error::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let lines = tracing_subscriber::fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stdout().is_terminal());
    let lines = match format {
        Format::Text => lines.boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    };
    let spans = SdkTracerProvider::builder();
    let spans = match traces {
        Traces::None => spans,
        Traces::Console => spans.with_simple_exporter(console::Console { service }),
    };
    let spans = spans.build();
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(tracing_opentelemetry::layer().with_tracer(spans.tracer(service)))
        .try_init()
        .map_err(|e| Error::Twice(e.to_string()))?;

    let metrics = PrometheusBuilder::new()
        .add_global_label("service", service)
        .set_buckets_for_metric(
            metrics_exporter_prometheus::Matcher::Suffix("_seconds".into()),
            &SECONDS,
        )
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|e| Error::Twice(e.to_string()))?;
    // Invariant: the recorder above installs once in a process, so this is the first handle.
    let _ = METRICS.set(metrics);
    Ok(())
}

/// Lets the metrics give up memory that they do not need. To be called every few seconds: without it, what is recorded
/// piles up until somebody scrapes.
pub fn upkeep() {
    if let Some(metrics) = METRICS.get() {
        metrics.run_upkeep();
    }
}

/// The process's metrics in Prometheus' text format; empty before [`init`].
pub fn render_metrics() -> String {
    METRICS.get().map_or_else(String::new, |metrics| {
        metrics.run_upkeep();
        metrics.render()
    })
}

/// The W3C `traceparent` of the current span, if it is part of a trace.
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    if !context.span().span_context().is_valid() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove(TRACEPARENT)
}

/// Makes `span` a child of the span that `traceparent` names, and records the trace's id in its field `trace_id`.
///
/// Call it on a new span, before it is entered: a span's parent cannot change later.
pub fn adopt(span: &Span, traceparent: Option<&str>) {
    if let Some(traceparent) = traceparent {
        let carrier = HashMap::from([(TRACEPARENT.to_owned(), traceparent.to_owned())]);
        // An error means that the span is filtered out or has begun: then there is nothing to continue.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
    }
    let context = span.context();
    let trace = context.span().span_context().trace_id();
    if context.span().span_context().is_valid() {
        span.record("trace_id", tracing::field::display(trace));
    }
}
