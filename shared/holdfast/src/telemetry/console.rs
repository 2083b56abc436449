//! Spans on standard output, one JSON object a line, for tests and for people without a collector.

use std::{io::Write, time::UNIX_EPOCH};

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use serde_json::{Map, Value, json};

/// An exporter that writes each ended span to standard output.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) service: &'static str,
}

impl SpanExporter for Console {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut out = std::io::stdout().lock();
        for span in batch {
            writeln!(out, "{}", line(self.service, &span))
                .map_err(|e| OTelSdkError::InternalFailure(e.to_string()))?;
        }
        Ok(())
    }
}

fn line(service: &str, span: &SpanData) -> Value {
    let kind = match span.span_kind {
        SpanKind::Client => "client",
        SpanKind::Server => "server",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
        SpanKind::Internal => "internal",
    };
    let parent = (span.parent_span_id != SpanId::INVALID).then(|| span.parent_span_id.to_string());
    let since_epoch = span.start_time.duration_since(UNIX_EPOCH);
    let lasted = span.end_time.duration_since(span.start_time);
    let attributes: Map<String, Value> = span
        .attributes
        .iter()
        .map(|attribute| {
            (
                attribute.key.to_string(),
                json!(attribute.value.to_string()),
            )
        })
        .collect();
    let links: Vec<Value> = span
        .links
        .iter()
        .map(|link| {
            let linked = &link.span_context;
            json!({ "trace_id": linked.trace_id().to_string(), "span_id": linked.span_id().to_string() })
        })
        .collect();
    let status = match &span.status {
        Status::Unset => Value::Null,
        Status::Ok => json!("ok"),
        Status::Error { description } => json!({ "error": description }),
    };
    json!({ "span": {
        "service": service,
        "name": span.name,
        "kind": kind,
        "trace_id": span.span_context.trace_id().to_string(),
        "span_id": span.span_context.span_id().to_string(),
        "parent_span_id": parent,
        // Zero if the clock was set back meanwhile.
        "start_unix_us": since_epoch.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX)),
        "duration_us": lasted.map_or(0, |lasted| u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX)),
        "status": status,
        "attributes": attributes,
        "links": links,
    }})
}
