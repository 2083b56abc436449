//! OTLP over HTTP, in protobuf, which every collector accepts, and so does Jaeger itself.

use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};

use super::{Error, SEND};

/// Makes an exporter that sends to `endpoint` with the path that the specification adds to it.
pub(super) fn exporter(endpoint: &str) -> Result<SpanExporter, Error> {
    SpanExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .with_timeout(SEND)
        .build()
        .map_err(|error| Error::Exporter {
            exporter: "otlp",
            why: error.to_string(),
        })
}
