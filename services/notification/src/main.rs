//! The notification service. `notification --help` lists its settings.

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = notification::Config::parse();
    chassis::start("notification", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    notification::App::build(config)?.run(shutdown).await
}
