//! Telemetry: one story across processes.
//!
//! # Problem
//!
//! An order hangs. Five services have logs; none of them says which of its ten thousand lines a minute are about this
//! order, or what happened before them in another service.
//!
//! # Guarantee
//!
//! [`init`] gives the process structured logs (`tracing`), spans (OpenTelemetry) and Prometheus metrics.
//! [`trace_context`] and [`adopt`] carry the W3C trace context, `traceparent` and `tracestate`, over anything that has
//! text headers: HTTP requests, outbox rows, AMQP messages, retries. A span that adopted a context logs its `trace_id`,
//! so that one search finds one order's lines in all services. Spans go to the process's [`Exporter`]: `otlp`,
//! `zipkin`, `jaeger`, `console`, `none`. The end of a span never waits for a collector: spans go through a bounded
//! queue to a thread of their own. [`shutdown`] sends the rest.
//!
//! # Not guaranteed
//!
//! That spans are kept. A collector that is unavailable or slow costs spans, and nothing else; so does a full queue,
//! and a process that is killed. A trace is no substitute for the order's timeline, which is stored with the order.
//!
//! # States
//!
//! One global subscriber, one global metrics recorder, one provider of spans, set once. A collector is *available* or
//! *unavailable*: each change is one log line, and `spans_exported_total{outcome="sent|lost"}` counts.
//!
//! # Failure modes
//!
//! A `traceparent` that is not valid, or is there twice, starts a new trace; a `tracestate` that is not valid is
//! dropped, and the trace goes on. A second [`init`] in one process is an error. An exporter that this build lacks is
//! an error at the start, which names the feature. A collector's name that cannot be resolved is an outage, not an
//! error.
//!
//! # Names
//!
//! Names are those of OpenTelemetry's semantic conventions: `http.request.method`, `db.operation.name`,
//! `messaging.destination.name`, `error.type`. Details that only a trace needs are [`attribute`]s; a field of the span
//! would make every log line longer. Spans are made at every level of the logs.
//!
//! ```
//! use holdfast::telemetry::{self, TraceContext};
//!
//! let caller = TraceContext::parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("rojo=1"));
//! let span = tracing::info_span!("handle", trace_id = tracing::field::Empty);
//! telemetry::adopt(&span, caller.as_ref());
//! let _entered = span.entered();
//! // Calls from here continue the same trace.
//! let outgoing = telemetry::trace_context();
//! # assert_eq!(outgoing, None); // there is no subscriber in this example
//! ```
//!
//! # Copying this
//!
//! This folder without the exporters that you do not want (a file and a feature each), and the crates `metrics`,
//! `metrics-exporter-prometheus`, `opentelemetry`, `opentelemetry_sdk`, `serde_json`, `thiserror`, `tracing`,
//! `tracing-opentelemetry`, `tracing-subscriber`, `uuid`. `otlp` and `zipkin` use `reqwest`, which needs a provider of
//! cryptography to be installed before [`init`].
//!
//! Sources: W3C, "Trace Context", 2021, and "Trace Context Level 2"; Benjamin Sigelman and others, "Dapper", 2010;
//! OpenTelemetry, "Semantic Conventions".

mod console;
mod context;
#[cfg(feature = "jaeger")]
mod jaeger;
#[cfg(feature = "otlp")]
mod otlp;
mod outage;
mod trace_context;
mod traces;
#[cfg(feature = "zipkin")]
mod zipkin;

use std::{io::IsTerminal, sync::OnceLock};

pub use context::{
    adopt, attribute, attributes, fail, is_recorded, link, rename, sql, trace_context,
    trace_context_of, traceparent,
};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
pub use trace_context::{TRACEPARENT, TRACESTATE, TraceContext};
pub use traces::{Exporter, Sampling, Traces, provider, shutdown};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

/// The longest that sending a batch to a collector may take, in the thread that does only that.
#[cfg(any(feature = "otlp", feature = "zipkin"))]
const SEND: std::time::Duration = std::time::Duration::from_secs(3);

/// The buckets, in seconds, of every histogram that ends in `_seconds`: from half a millisecond to five minutes.
const SECONDS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    60.0, 300.0,
];
/// The buckets of every histogram that ends in `_size`.
const SIZES: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];

/// The process's metrics; set once by [`init`].
static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people to read.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// A failure to set up telemetry. Nothing else of the process is affected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is not of the form `info,sqlx=warn`.
    #[error("the log filter {filter:?} is not valid: {source}")]
    Filter {
        /// The filter that was given.
        filter: String,
        /// The parser's complaint.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The sampler's name or argument is not valid.
    #[error("{0}")]
    Sampler(String),
    /// The exporter cannot be made: its address is not valid, or there is no HTTP client.
    #[error("the exporter {exporter}: {why}")]
    Exporter {
        /// The exporter's name: `otlp` or `zipkin`.
        exporter: &'static str,
        /// The reason, for the operator.
        why: String,
    },
    /// This build has no such exporter: build with the feature of its name.
    #[error(
        "OTEL_TRACES_EXPORTER={0}: this build has no such exporter; build with the feature {0}"
    )]
    NotCompiledIn(&'static str),
    /// There is a subscriber or a recorder already.
    #[error("telemetry is set up already: {0}")]
    Twice(String),
}

/// Sets up logs, spans and metrics for this process. `filter` is of the form `info,sqlx=warn`, and is about logs alone.
pub fn init(
    service: &'static str,
    version: &'static str,
    filter: &str,
    format: Format,
    traces: &Traces,
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
    let exporters = std::slice::from_ref(&traces.exporter);
    let spans = provider(service, version, exporters, traces.sampling)?;
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(layer(service, &spans))
        .try_init()
        .map_err(|e| Error::Twice(e.to_string()))?;
    traces::keep(spans);

    let metrics = PrometheusBuilder::new()
        .add_global_label("service", service)
        .set_buckets_for_metric(
            metrics_exporter_prometheus::Matcher::Suffix("_seconds".into()),
            &SECONDS,
        )
        .and_then(|builder| {
            let sizes = metrics_exporter_prometheus::Matcher::Suffix("_size".into());
            builder.set_buckets_for_metric(sizes, &SIZES)
        })
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|e| Error::Twice(e.to_string()))?;
    // Invariant: the recorder above installs once in a process, so this is the first handle.
    let _ = METRICS.set(metrics);
    metrics::describe_counter!(
        "spans_exported_total",
        metrics::Unit::Count,
        "Spans that the exporter is done with, by outcome: sent, lost"
    );
    Ok(())
}

/// Lets the metrics free memory that they do not need. Call it every few seconds: without it, recorded values
/// accumulate until the next scrape.
pub fn upkeep() {
    if let Some(metrics) = METRICS.get() {
        metrics.run_upkeep();
    }
}

/// Returns the process's metrics in Prometheus' text format; empty before [`init`].
pub fn render_metrics() -> String {
    METRICS.get().map_or_else(String::new, |metrics| {
        metrics.run_upkeep();
        metrics.render()
    })
}

/// Returns the layer that turns the spans of `tracing` into those of `spans`: all of level info and above, whatever the
/// log filter is.
pub fn layer<S>(service: &'static str, spans: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer()
        .with_tracer(spans.tracer(service))
        // Location in the source, thread, idle time: attributes that would be on every span, without use.
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        // Contexts are read from spans, never from the thread: otherwise each poll of each future would set and reset
        // it.
        .with_context_activation(false)
        .with_filter(LevelFilter::INFO)
}
