//! The settings: each an environment variable, each documented by `--help`.

use chassis::settings::{Settings, TelemetrySettings};
use clap::Parser;

/// Stand-in for the outside card company: durable ledger, idempotency keys, failure, decline and latency knobs
#[derive(Clone, Debug, Parser)]
#[command(name = "card-processor")]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub chassis: Settings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
}
