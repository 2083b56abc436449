//! The settings. Each is an environment variable, and documented by `--help`.

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings};
use clap::Parser;

/// Catalogue, prices, stock and reservations
#[derive(Clone, Debug, Parser)]
#[command(name = "inventory")]
pub struct Config {
    /// The settings that every service has.
    #[command(flatten)]
    pub chassis: Settings,
    /// The connection to RabbitMQ, and its consumers.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// The settings of logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}
