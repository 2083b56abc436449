//! A Jaeger agent, by UDP. The last version of the crate `opentelemetry-jaeger` is for OpenTelemetry 0.23: this module
//! converts today's spans into that version's.

use std::{
    borrow::Cow,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use opentelemetry::{KeyValue, Value, trace};
use opentelemetry_0_23::{self as old, trace::TraceState};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use opentelemetry_sdk_0_23::{
    self as old_sdk,
    export::trace::{SpanData as OldSpanData, SpanExporter as _},
    trace::{SpanEvents, SpanLinks},
};

/// An exporter that sends spans to an agent.
#[derive(Debug)]
pub(super) struct Jaeger {
    endpoint: String,
    resource: old_sdk::Resource,
    /// `None` until there are spans, and after any error: the agent's name is looked up when it is needed, so that a
    /// process starts without it.
    #[expect(deprecated, reason = "as a whole; it is what DESIGN asks for")]
    agent: Mutex<Option<opentelemetry_jaeger::Exporter>>,
}

impl Jaeger {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self {
            endpoint: format!("{host}:{port}"),
            resource: old_sdk::Resource::empty(),
            agent: Mutex::default(),
        }
    }
}

impl SpanExporter for Jaeger {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let batch = batch.into_iter().map(span).collect();
        let failed =
            |error: old::trace::TraceError| OTelSdkError::InternalFailure(error.to_string());
        let exporting = {
            let mut agent = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
            let mut exporter = match agent.take() {
                Some(exporter) => exporter,
                #[expect(deprecated, reason = "as a whole; it is what DESIGN asks for")]
                None => opentelemetry_jaeger::new_agent_pipeline()
                    .with_endpoint(self.endpoint.as_str())
                    // A packet holds 65 kB.
                    .with_auto_split_batch(true)
                    .with_instrumentation_library_tags(false)
                    .with_trace_config(
                        old_sdk::trace::Config::default().with_resource(self.resource.clone()),
                    )
                    .build_sync_agent_exporter()
                    .map_err(failed)?,
            };
            let exporting = exporter.export(batch);
            *agent = Some(exporter);
            exporting
        };
        let exported = exporting.await;
        if exported.is_err() {
            *self.agent.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        exported.map_err(failed)
    }

    fn set_resource(&mut self, resource: &Resource) {
        let pairs = resource
            .iter()
            .filter(|(key, _)| !key.as_str().starts_with("telemetry.sdk."));
        self.resource = old_sdk::Resource::new(
            pairs.map(|(key, value)| old::KeyValue::new(key.to_string(), value_of(value.clone()))),
        );
    }
}

fn span(span: SpanData) -> OldSpanData {
    let mut events = SpanEvents::default();
    events.events = span.events.events.into_iter().map(event).collect();
    let mut links = SpanLinks::default();
    links.links = span
        .links
        .links
        .into_iter()
        .map(|link| {
            old::trace::Link::new(
                context(&link.span_context),
                pairs(link.attributes),
                link.dropped_attributes_count,
            )
        })
        .collect();
    OldSpanData {
        span_context: context(&span.span_context),
        parent_span_id: old::trace::SpanId::from_bytes(span.parent_span_id.to_bytes()),
        span_kind: match span.span_kind {
            trace::SpanKind::Client => old::trace::SpanKind::Client,
            trace::SpanKind::Server => old::trace::SpanKind::Server,
            trace::SpanKind::Producer => old::trace::SpanKind::Producer,
            trace::SpanKind::Consumer => old::trace::SpanKind::Consumer,
            trace::SpanKind::Internal => old::trace::SpanKind::Internal,
        },
        name: span.name,
        start_time: span.start_time,
        end_time: span.end_time,
        attributes: pairs(span.attributes),
        dropped_attributes_count: span.dropped_attributes_count,
        events,
        links,
        status: match span.status {
            trace::Status::Unset => old::trace::Status::Unset,
            trace::Status::Ok => old::trace::Status::Ok,
            trace::Status::Error { description } => old::trace::Status::Error { description },
        },
        // The exporter has the resource of the process.
        resource: Cow::Owned(old_sdk::Resource::empty()),
        instrumentation_lib: old_sdk::InstrumentationLibrary::default(),
    }
}

fn event(event: trace::Event) -> old::trace::Event {
    let at: SystemTime = event.timestamp;
    old::trace::Event::new(
        event.name,
        at,
        pairs(event.attributes),
        event.dropped_attributes_count,
    )
}

fn context(context: &trace::SpanContext) -> old::trace::SpanContext {
    old::trace::SpanContext::new(
        old::trace::TraceId::from_bytes(context.trace_id().to_bytes()),
        old::trace::SpanId::from_bytes(context.span_id().to_bytes()),
        old::trace::TraceFlags::new(context.trace_flags().to_u8()),
        context.is_remote(),
        TraceState::NONE,
    )
}

fn pairs(attributes: Vec<KeyValue>) -> Vec<old::KeyValue> {
    attributes
        .into_iter()
        .map(|pair| old::KeyValue::new(pair.key.to_string(), value_of(pair.value)))
        .collect()
}

fn value_of(value: Value) -> old::Value {
    match value {
        Value::Bool(value) => value.into(),
        Value::I64(value) => value.into(),
        Value::F64(value) => value.into(),
        // Jaeger has no lists: they are sent as text.
        other => other.to_string().into(),
    }
}
