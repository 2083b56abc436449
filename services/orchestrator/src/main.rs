//! The orchestrator. `orchestrator --help` lists its settings.

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = orchestrator::Config::parse();
    chassis::start("orchestrator", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    orchestrator::App::build(config)?.run(shutdown).await
}
