//! The destination of spans, and the choice of those that are kept.

use std::{sync::OnceLock, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_sdk::{
    Resource,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, SpanExporter,
        TracerProviderBuilder,
    },
};

use super::{Error, console::Console, outage::Outage};

/// The process's spans; set once by [`init`](super::init).
static SPANS: OnceLock<SdkTracerProvider> = OnceLock::new();

/// The settings of tracing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traces {
    /// The destination of the spans that are kept.
    pub exporter: Exporter,
    /// The choice of traces that are kept.
    pub sampling: Sampling,
}

/// A destination of spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Exporter {
    /// Nowhere. Trace ids are made, logged and passed on all the same. Only traces that a caller keeps are marked as
    /// sampled.
    #[default]
    None,
    /// To standard output, one JSON object a line.
    Console,
    /// To a collector, or Jaeger itself, by OTLP over HTTP in protobuf. Needs the feature `otlp`.
    Otlp {
        /// The collector's base, as `http://HOST:4318`: `/v1/traces` is added to it.
        endpoint: String,
    },
    /// To Zipkin, as its JSON, version 2. Needs the feature `zipkin`.
    Zipkin {
        /// The whole URL, as `http://HOST:9411/api/v2/spans`.
        endpoint: String,
    },
    /// To a Jaeger agent, as Thrift in UDP packets. Needs the feature `jaeger`.
    Jaeger {
        /// The agent's host name or address.
        host: String,
        /// Its port for the compact protocol: 6831.
        port: u16,
    },
}

/// The choice of traces that are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Set if a span whose parent is in another process follows its parent's decision.
    pub parent_based: bool,
    /// The share, from 0 to 1, of the traces that begin here; of all traces, unless `parent_based`.
    pub ratio: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            parent_based: true,
            ratio: 1.0,
        }
    }
}

impl Sampling {
    /// Returns the sampling that OpenTelemetry's specification defines for `OTEL_TRACES_SAMPLER` and
    /// `OTEL_TRACES_SAMPLER_ARG`.
    pub fn named(name: &str, ratio: f64) -> Result<Self, Error> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(Error::Sampler(format!(
                "OTEL_TRACES_SAMPLER_ARG is a share from 0 to 1, not {ratio}"
            )));
        }
        let (parent_based, own) = match name.strip_prefix("parentbased_") {
            Some(own) => (true, own),
            None => (false, name),
        };
        let ratio = match own {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio,
            _ => {
                return Err(Error::Sampler(format!(
                    "OTEL_TRACES_SAMPLER knows always_on, always_off and traceidratio, each also with parentbased_ \
                     before it, not {name:?}"
                )));
            }
        };
        Ok(Self {
            parent_based,
            ratio,
        })
    }

    fn sampler(self) -> Sampler {
        let own = if self.ratio >= 1.0 {
            Sampler::AlwaysOn
        } else if self.ratio <= 0.0 {
            Sampler::AlwaysOff
        } else {
            Sampler::TraceIdRatioBased(self.ratio)
        };
        if self.parent_based {
            Sampler::ParentBased(Box::new(own))
        } else {
            own
        }
    }
}

/// Makes the provider that records a process's spans and sends them to each of `exporters`. [`init`](super::init) keeps
/// one for the process; a test makes its own.
pub fn provider(
    service: &'static str,
    version: &'static str,
    exporters: &[Exporter],
    sampling: Sampling,
) -> Result<SdkTracerProvider, Error> {
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attributes([
            KeyValue::new("service.version", version),
            KeyValue::new("service.instance.id", uuid::Uuid::now_v7().to_string()),
        ])
        .build();
    let nobody_looks = exporters.iter().all(|exporter| *exporter == Exporter::None);
    let sampling = if nobody_looks {
        // The ids are needed for logs. A caller's wish to keep its trace is passed on to services that have an
        // exporter.
        Sampling {
            parent_based: true,
            ratio: 0.0,
        }
    } else {
        sampling
    };
    let builder = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampling.sampler());
    let builder = exporters
        .iter()
        .try_fold(builder, |builder, exporter| exporter.add(service, builder))?;
    Ok(builder.build())
}

impl Exporter {
    fn add(
        &self,
        service: &'static str,
        builder: TracerProviderBuilder,
    ) -> Result<TracerProviderBuilder, Error> {
        match self {
            Self::None => Ok(builder),
            // Each span is written at once: a test reads the last line before the process is killed.
            Self::Console => Ok(builder.with_simple_exporter(Console { service })),
            #[cfg(feature = "otlp")]
            Self::Otlp { endpoint } => {
                Ok(batched(builder, "otlp", super::otlp::exporter(endpoint)?))
            }
            #[cfg(not(feature = "otlp"))]
            Self::Otlp { .. } => Err(Error::NotCompiledIn("otlp")),
            #[cfg(feature = "zipkin")]
            Self::Zipkin { endpoint } => {
                let exporter = super::zipkin::Zipkin::new(endpoint)?;
                Ok(batched(builder, "zipkin", exporter))
            }
            #[cfg(not(feature = "zipkin"))]
            Self::Zipkin { .. } => Err(Error::NotCompiledIn("zipkin")),
            #[cfg(feature = "jaeger")]
            Self::Jaeger { host, port } => {
                let exporter = super::jaeger::Jaeger::new(host, *port);
                Ok(batched(builder, "jaeger", exporter))
            }
            #[cfg(not(feature = "jaeger"))]
            Self::Jaeger { .. } => Err(Error::NotCompiledIn("jaeger")),
        }
    }
}

/// Adds an exporter with a bounded queue and a thread of its own: the end of a span never waits, and a full queue drops
/// the span.
#[cfg_attr(
    not(any(feature = "otlp", feature = "zipkin", feature = "jaeger")),
    expect(dead_code, reason = "the exporters that it is for are features")
)]
fn batched(
    builder: TracerProviderBuilder,
    name: &'static str,
    exporter: impl SpanExporter + 'static,
) -> TracerProviderBuilder {
    let mut config = BatchConfigBuilder::default();
    if std::env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        // The specification's default is 5 s; a customer who has just placed an order looks for its trace sooner.
        config = config.with_scheduled_delay(Duration::from_secs(1));
    }
    let processor = BatchSpanProcessor::builder(Outage::new(name, exporter))
        .with_batch_config(config.build())
        .build();
    builder.with_span_processor(processor)
}

/// Makes `provider` the process's.
pub(super) fn keep(provider: SdkTracerProvider) {
    // Invariant: called by `init`, after its subscriber was installed, which happens once in a process.
    let _ = SPANS.set(provider);
}

/// Sends the spans that are still queued, for `within` at most. Blocks; call it as the last act of the process.
///
/// If the collector is unavailable, which a warning has reported before, these spans are lost too.
pub fn shutdown(within: Duration) {
    if let Some(spans) = SPANS.get() {
        let _ = spans.shutdown_with_timeout(within);
    }
}
