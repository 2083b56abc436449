//! One connection to the broker.

use std::{fmt::Display, time::Duration};

use lapin::{Connection, ConnectionProperties};
use tokio::{sync::watch, time::timeout};

use super::headers::FRAME_MAX;

/// The time limit of connecting, handshake included.
const CONNECT: Duration = Duration::from_secs(5);

/// The state of a connection, up or down: for readiness, and for work that makes sense only while it is up.
#[derive(Clone, Debug)]
pub struct Link(watch::Receiver<bool>);

impl Link {
    pub(super) fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Returns whether the connection is up now.
    pub fn is_up(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until it is up. Cancel safe.
    pub async fn up(&self) {
        self.until(true).await;
    }

    /// Waits until it is down. Cancel safe.
    pub async fn down(&self) {
        self.until(false).await;
    }

    async fn until(&self, wanted: bool) {
        let mut link = self.0.clone();
        if link.wait_for(|up| *up == wanted).await.is_err() && wanted {
            // The owner is gone: the link will never be up again.
            std::future::pending::<()>().await;
        }
    }
}

/// Connects under `name`, which the broker's tools show.
pub(super) async fn connect(url: &str, name: &str) -> Result<Connection, String> {
    // A silent peer is noticed after two heartbeats. A frame may be as large as the broker's other clients may send it.
    let joint = if url.contains('?') { '&' } else { '?' };
    let url = format!("{url}{joint}heartbeat=10&connection_timeout=3000&frame_max={FRAME_MAX}");
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    match timeout(CONNECT, Connection::connect(&url, properties)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {CONNECT:?}")),
    }
}

/// Closes the connection, and waits for the broker's reply for at most a second.
pub(super) async fn close(connection: &Connection, why: impl Display) {
    if connection.status().connected() {
        let _ = timeout(
            Duration::from_secs(1),
            connection.close(200, why.to_string().into()),
        )
        .await;
    }
}
