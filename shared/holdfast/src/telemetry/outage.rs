//! An unavailable collector: one warning per outage, and a count of the lost spans.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use metrics::counter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use tracing::{info, warn};

/// An exporter that logs once when its spans begin to be lost, and once when they are sent again.
#[derive(Debug)]
pub(super) struct Outage<E> {
    name: &'static str,
    exporter: E,
    /// Set while the last batch was lost.
    is_away: AtomicBool,
}

impl<E> Outage<E> {
    pub(super) fn new(name: &'static str, exporter: E) -> Self {
        Self {
            name,
            exporter,
            is_away: AtomicBool::new(false),
        }
    }
}

impl<E: SpanExporter> SpanExporter for Outage<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len() as u64;
        let exported = self.exporter.export(batch).await;
        let was_away = self.is_away.swap(exported.is_err(), Ordering::Relaxed);
        // Both are always counted, so that "none was lost" is a figure and not an absence.
        let (sent, lost) = match &exported {
            Ok(()) => (spans, 0),
            Err(_) => (0, spans),
        };
        counter!("spans_exported_total", "outcome" => "sent").increment(sent);
        counter!("spans_exported_total", "outcome" => "lost").increment(lost);
        match &exported {
            Err(error) if !was_away => {
                warn!(exporter = self.name, %error, "spans are lost until the collector answers");
            }
            Ok(()) if was_away => info!(exporter = self.name, "the collector takes spans again"),
            _ => {}
        }
        exported
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
