//! The settings: each an environment variable, each documented by `--help`.

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings};
use clap::Parser;

/// Catalogue, prices, stock and reservations
#[derive(Clone, Debug, Parser)]
#[command(name = "inventory")]
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
}
