//! The settings: each an environment variable, each documented by `--help`.

use std::time::Duration;

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings};
use clap::{Args, Parser};

/// Carries orchestrated orders to their end, by durable sagas
#[derive(Clone, Debug, Parser)]
#[command(name = "orchestrator")]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub chassis: Settings,
    /// RabbitMQ.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// Sagas.
    #[command(flatten)]
    pub sagas: SagaSettings,
}

/// How patient sagas are.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Sagas")]
pub struct SagaSettings {
    /// How long sagas wait for answers, in percent of what their definitions say: less for a drill, more for slow participants
    #[arg(long, env = "SAGA_PACE", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub saga_pace: u32,

    /// How often to look for overdue answers, in milliseconds
    #[arg(long, env = "SAGA_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub saga_poll_ms: u64,
}

impl SagaSettings {
    /// What every timeout is multiplied by.
    pub(crate) fn pace(&self) -> f64 {
        f64::from(self.saga_pace) / 100.0
    }

    /// How often to look for overdue answers.
    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.saga_poll_ms)
    }
}
