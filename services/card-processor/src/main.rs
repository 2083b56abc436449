//! The card processor. `card-processor --help` lists its settings.

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = card_processor::Config::parse();
    chassis::start("card-processor", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    card_processor::App::build(config)?.run(shutdown).await
}
