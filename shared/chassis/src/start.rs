//! The first lines of every `main`.

use holdfast::{failpoint, telemetry};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::settings::TelemetrySettings;

/// Sets up the globals of the process: telemetry, failpoints, and the cryptography of TLS.
pub fn start(service: &'static str, settings: &TelemetrySettings) -> Result<(), telemetry::Error> {
    // An error means that a provider is installed already, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    failpoint::setup();
    telemetry::init(
        service,
        // One version for the whole workspace.
        env!("CARGO_PKG_VERSION"),
        &settings.log,
        settings.format(),
        &settings.traces()?,
    )
}

/// Returns a token that SIGTERM or SIGINT cancels. A second signal ends the process at once.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if token.is_cancelled() {
                std::process::exit(130);
            }
            info!(signal = name, "stopping");
            token.cancel();
        }
    });
    Ok(shutdown)
}
