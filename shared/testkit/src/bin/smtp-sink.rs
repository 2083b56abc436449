//! A mail server that writes each mail to a file, for `cargo xtask up`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;
use testkit::SmtpSink;

/// Takes every mail and writes it to a file
#[derive(Parser)]
#[command(name = "smtp-sink")]
struct Arguments {
    /// Address to listen on
    #[arg(long, env = "SMTP_SINK_LISTEN")]
    listen: SocketAddr,

    /// Folder for the mails, one file each
    #[arg(long, env = "SMTP_SINK_FOLDER")]
    folder: PathBuf,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { listen, folder } = Arguments::parse();
    tokio::fs::create_dir_all(&folder).await?;
    let sink = SmtpSink::listen(listen, Some(folder.clone())).await?;
    println!(
        "taking mails on {}, writing them to {}",
        sink.address(),
        folder.display()
    );
    let shutdown = chassis::on_signal()?;
    shutdown.cancelled().await;
    Ok(())
}
