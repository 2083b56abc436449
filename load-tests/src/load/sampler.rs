//! Samples of the stack, once a second.

use std::{sync::Mutex, sync::PoisonError, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    depths::{Depths, Gauge},
    processes::{Snapshot, Whose, snapshot},
};

/// The state of the stack at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Seconds since the sampling began.
    pub at: f64,
    /// Processor time and memory of each part.
    pub parts: Snapshot,
    /// The depths of queues and outboxes; `None` if they cannot be read.
    pub depths: Option<Depths>,
}

/// The samples until now.
#[derive(Default)]
pub struct Samples(Mutex<Vec<Sample>>);

impl Samples {
    /// Returns all samples.
    pub fn all(&self) -> Vec<Sample> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Returns the last sample.
    pub fn last(&self) -> Option<Sample> {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        samples.last().cloned()
    }

    fn push(&self, sample: Sample) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(sample);
    }
}

/// Takes a sample each second until `stop`. `begun` is the samples' moment zero.
pub async fn sample(
    samples: &Samples,
    whose: &Whose,
    gauge: Option<&Gauge>,
    begun: Instant,
    stop: &CancellationToken,
) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let at = begun.elapsed().as_secs_f64();
        let whose = whose.clone();
        // A part that cannot be read now is left out.
        let parts = tokio::task::spawn_blocking(move || snapshot(&whose))
            .await
            .unwrap_or_default();
        let depths = match gauge {
            None => None,
            Some(gauge) => timeout(Duration::from_secs(2), gauge.read())
                .await
                .ok()
                .and_then(Result::ok),
        };
        samples.push(Sample { at, parts, depths });
    }
}
