//! The order service. `order --help` lists its settings.

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = order::Config::parse();
    chassis::start("order", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    order::App::build(config)?.run(shutdown).await
}
