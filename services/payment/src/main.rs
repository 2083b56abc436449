//! The payment service. `payment --help` lists its settings.

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = payment::Config::parse();
    chassis::start("payment", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    payment::App::build(config)?.run(shutdown).await
}
