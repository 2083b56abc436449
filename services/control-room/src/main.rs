//! The control room. `control-room --help` lists its settings.

use clap::Parser;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let config = control_room::Config::parse();
    chassis::start("control-room", &config.telemetry)?;
    let shutdown = chassis::on_signal()?;
    control_room::App::build(config)?.run(shutdown).await
}
