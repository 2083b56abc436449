//! The settings. Each is an environment variable, and documented by `--help`.

use chassis::settings::{Settings, TelemetrySettings};
use clap::Parser;

/// Stand-in for an external card processor: durable ledger, idempotency keys, failure, decline and latency knobs
#[derive(Clone, Debug, Parser)]
#[command(name = "card-processor")]
pub struct Config {
    /// The settings that every service has.
    #[command(flatten)]
    pub chassis: Settings,
    /// The settings of logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}
