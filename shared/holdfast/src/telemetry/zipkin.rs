//! Zipkin's JSON, version 2. Written here because the crate `opentelemetry-zipkin` is deprecated, and leaves out the
//! service's name.
//!
//! Zipkin has no links: spans arrive there without theirs.

use std::time::UNIX_EPOCH;

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};
use reqwest::{Url, blocking::Client};
use serde_json::{Map, Value, json};

use super::{Error, SEND};

/// An exporter that posts spans to Zipkin.
#[derive(Debug)]
pub(super) struct Zipkin {
    endpoint: Url,
    client: Client,
    /// The service's name. The other attributes of the process are `tags`.
    local: Value,
    tags: Map<String, Value>,
}

impl Zipkin {
    pub(super) fn new(endpoint: &str) -> Result<Self, Error> {
        let failed = |why: String| Error::Exporter {
            exporter: "zipkin",
            why,
        };
        let url = endpoint
            .parse()
            .map_err(|error| failed(format!("{endpoint:?} is not a valid URL: {error}")))?;
        // A blocking client contains a runtime, which must not be made inside another one.
        let client = std::thread::spawn(|| Client::builder().timeout(SEND).build())
            .join()
            .map_err(|_| failed("no HTTP client: is there a provider of cryptography?".to_owned()))?
            .map_err(|error| failed(error.to_string()))?;
        Ok(Self {
            endpoint: url,
            client,
            local: json!({}),
            tags: Map::new(),
        })
    }

    fn span(&self, span: &SpanData) -> Value {
        let kind = match span.span_kind {
            SpanKind::Client => Some("CLIENT"),
            SpanKind::Server => Some("SERVER"),
            SpanKind::Producer => Some("PRODUCER"),
            SpanKind::Consumer => Some("CONSUMER"),
            SpanKind::Internal => None,
        };
        let micros = |time: std::time::SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
        };
        let lasted = span.end_time.duration_since(span.start_time);
        let mut tags = self.tags.clone();
        for attribute in &span.attributes {
            tags.insert(
                attribute.key.to_string(),
                attribute.value.to_string().into(),
            );
        }
        match &span.status {
            Status::Unset => {}
            Status::Ok => {
                tags.insert("otel.status_code".to_owned(), "OK".into());
            }
            Status::Error { description } => {
                tags.insert("otel.status_code".to_owned(), "ERROR".into());
                tags.insert("error".to_owned(), description.as_ref().into());
            }
        }
        let annotations: Vec<Value> = span
            .events
            .iter()
            .map(|event| json!({ "timestamp": micros(event.timestamp), "value": event.name }))
            .collect();
        let mut json = json!({
            "traceId": span.span_context.trace_id().to_string(),
            "id": span.span_context.span_id().to_string(),
            "name": span.name,
            "timestamp": micros(span.start_time),
            // Zipkin does not allow zero, which would mean "unknown".
            "duration": lasted.map_or(1, |lasted| u64::try_from(lasted.as_micros()).unwrap_or(u64::MAX).max(1)),
            "localEndpoint": self.local,
            "tags": tags,
            "annotations": annotations,
        });
        if let Some(kind) = kind {
            json["kind"] = kind.into();
        }
        if span.parent_span_id != SpanId::INVALID {
            json["parentId"] = span.parent_span_id.to_string().into();
        }
        json
    }
}

impl SpanExporter for Zipkin {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans: Vec<Value> = batch.iter().map(|span| self.span(span)).collect();
        let failed = |error: reqwest::Error| OTelSdkError::InternalFailure(error.to_string());
        self.client
            .post(self.endpoint.clone())
            .json(&spans)
            .send()
            .and_then(reqwest::blocking::Response::error_for_status)
            .map_err(failed)?;
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        for (key, value) in resource {
            let value = value.to_string();
            match key.as_str() {
                "service.name" => self.local = json!({ "serviceName": value }),
                // The tracing library's own name and version say nothing about the process.
                key if key.starts_with("telemetry.sdk.") => {}
                key => {
                    self.tags.insert(key.to_owned(), value.into());
                }
            }
        }
    }
}
