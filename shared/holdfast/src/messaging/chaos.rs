//! The switch that makes a consumer repeat, delay and reorder its deliveries: it does all the time what a broker may
//! do.
//!
//! `CONSUMER_CHAOS=500` (with the feature `failpoints`): each delivery is handled twice, once under its own message id
//! and once as if it had been resent under a new one (which tests both the inbox and the idempotency of the effects),
//! each after a delay of up to 500 ms, in the order that results.

use std::time::Duration;

use lapin::message::Delivery;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::subscription::Item;

/// The settings of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chaos {
    max_delay: Duration,
}

impl Chaos {
    /// Reads `CONSUMER_CHAOS`: the longest delay, in milliseconds.
    pub(super) fn from_env() -> Option<Self> {
        let value = std::env::var("CONSUMER_CHAOS").ok()?;
        if !crate::failpoint::ENABLED {
            warn!(
                "CONSUMER_CHAOS is set, but this build has no failpoints: build with --features holdfast/failpoints"
            );
            return None;
        }
        match value.parse() {
            Ok(millis) => Some(Self {
                max_delay: Duration::from_millis(millis),
            }),
            Err(error) => {
                warn!(value, %error, "CONSUMER_CHAOS is not a valid number of milliseconds");
                None
            }
        }
    }
}

/// Copies of deliveries, each waiting until it is due.
pub(super) struct Mixer {
    max_delay: Duration,
    waiting: Vec<(Instant, Item)>,
}

impl Mixer {
    pub(super) fn new(chaos: &Chaos) -> Self {
        Self {
            max_delay: chaos.max_delay,
            waiting: Vec::new(),
        }
    }

    /// Adds two copies of a delivery.
    pub(super) fn add(&mut self, delivery: Delivery) {
        let item = Item::new(delivery);
        for copy in [item.resent(), item] {
            let due = Instant::now() + self.max_delay.mul_f64(fastrand::f64());
            self.waiting.push((due, copy));
        }
    }

    /// Waits until the next copy is due. Cancel safe.
    pub(super) async fn due(&self) {
        match self.waiting.iter().map(|(due, _)| *due).min() {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    }

    /// Takes out the copies that are due, up to `most`, in the order in which they are due.
    pub(super) fn take(&mut self, most: usize) -> Vec<Item> {
        let now = Instant::now();
        self.waiting.sort_by_key(|(due, _)| *due);
        let due = self
            .waiting
            .partition_point(|(due, _)| *due <= now)
            .min(most);
        self.waiting.drain(..due).map(|(_, item)| item).collect()
    }
}
