//! The service that W3C's trace-context harness tests; see docs/verification.md.

use clap::Parser;
use testkit::{RelayConfig, relay};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = RelayConfig::parse();
    chassis::start("trace-relay", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    relay(config)?.run(shutdown).await
}
