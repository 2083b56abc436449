//! The settings. Each is an environment variable, documented by `--help`.

use std::time::Duration;

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings};
use clap::{Args, Parser};

/// Carries orchestrated orders to their end, by durable sagas
#[derive(Clone, Debug, Parser)]
#[command(name = "orchestrator")]
pub struct Config {
    /// The settings that every service has.
    #[command(flatten)]
    pub chassis: Settings,
    /// The settings of the connection to RabbitMQ.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// The settings of logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// The settings of sagas, this service's own.
    #[command(flatten)]
    pub sagas: SagaSettings,
}

/// The timeouts of sagas, and the interval of the sweep.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Sagas")]
pub struct SagaSettings {
    /// The time for which sagas wait for replies, in percent of what their definitions say: less for a drill, more for
    /// slow participants
    #[arg(long, env = "SAGA_PACE", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub saga_pace: u32,

    /// The interval of the search for overdue replies, in milliseconds
    #[arg(long, env = "SAGA_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub saga_poll_ms: u64,
}

impl SagaSettings {
    /// Returns the factor for every timeout.
    pub(crate) fn pace(&self) -> f64 {
        f64::from(self.saga_pace) / 100.0
    }

    /// Returns the interval of the search for overdue replies.
    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.saga_poll_ms)
    }
}
