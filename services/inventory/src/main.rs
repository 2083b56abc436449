//! The inventory service. `inventory --help` lists its settings.

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = inventory::Config::parse();
    chassis::start("inventory", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    inventory::App::build(config)?.run(shutdown).await
}
