//! A service that is slow, or fails, because a demonstration wants it to.

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

/// What is wrong with this service; by default nothing is, and only a demonstration's route changes that.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    latency_ms: AtomicU64,
    unavailable: AtomicBool,
}

impl Faults {
    /// From now on every request takes `latency` longer, and then fails if it is `unavailable`.
    pub(super) fn set(&self, latency_ms: u64, unavailable: bool) {
        self.0.latency_ms.store(latency_ms, Ordering::Relaxed);
        self.0.unavailable.store(unavailable, Ordering::Relaxed);
    }

    /// Strikes a request that is in progress. What operators and demonstrations do goes on as ever: somebody has to mend it.
    pub(crate) async fn strike(&self, path: &str) -> Result<(), Problem> {
        if path.starts_with("/demo") || path.starts_with("/operator") {
            return Ok(());
        }
        let latency = self.0.latency_ms.load(Ordering::Relaxed);
        if latency > 0 {
            pause(Duration::from_millis(latency)).await;
        }
        if self.0.unavailable.load(Ordering::Relaxed) {
            // Without a Retry-After: nobody is told to wait.
            return Err(Problem::from_status(StatusCode::INTERNAL_SERVER_ERROR));
        }
        Ok(())
    }
}
