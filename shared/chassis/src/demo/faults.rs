//! Faults of the HTTP server that a demonstration causes: slow requests, and requests that fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix_web::http::StatusCode;
use holdfast::backoff::pause;

use crate::http::Problem;

/// The faults of this service's HTTP server: none, until a demonstration's route sets them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    latency_ms: AtomicU64,
    unavailable: AtomicBool,
}

impl Faults {
    /// Makes every request take `latency_ms` longer from now on, and then fail if `unavailable`.
    pub(super) fn set(&self, latency_ms: u64, unavailable: bool) {
        self.0.latency_ms.store(latency_ms, Ordering::Relaxed);
        self.0.unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// Applies the faults to a request in progress. Requests of operators and demonstrations are spared, so that they
    /// can end the faults.
    pub(crate) async fn strike(&self, path: &str) -> Result<(), Problem> {
        if path.starts_with("/demo") || path.starts_with("/operator") {
            return Ok(());
        }
        let latency = self.0.latency_ms.load(Ordering::Relaxed);
        if latency > 0 {
            pause(Duration::from_millis(latency)).await;
        }
        if self.0.unavailable.load(Ordering::Relaxed) {
            // A 500 has no Retry-After: clients are left to their own backoff.
            return Err(Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR));
        }
        Ok(())
    }
}
