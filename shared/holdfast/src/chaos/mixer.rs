//! Delays, and the order that results.

use std::{sync::OnceLock, time::Duration};

use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::failpoint::compiled_in;

/// Returns the longest delay, which `CONSUMER_CHAOS` sets in milliseconds; `None` if it is not set, or in a build
/// without failpoints. Reads the variable once.
pub fn longest_delay() -> Option<Duration> {
    static DELAY: OnceLock<Option<Duration>> = OnceLock::new();
    *DELAY.get_or_init(|| {
        let value = std::env::var("CONSUMER_CHAOS").ok()?;
        if let Err(error) = compiled_in() {
            warn!(%error, "CONSUMER_CHAOS does nothing");
            return None;
        }
        match value.parse() {
            Ok(millis) => {
                warn!(
                    millis,
                    "consumers repeat, delay and reorder what they are given"
                );
                Some(Duration::from_millis(millis))
            }
            Err(error) => {
                warn!(value, %error, "CONSUMER_CHAOS is not a valid number of milliseconds");
                None
            }
        }
    })
}

/// The longest delay of all, a day. A point in time far beyond it does not fit the clock.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Items that wait, each until it is due, after a random delay of its own. So they leave in another order.
#[derive(Debug)]
pub struct Mixer<T> {
    longest: Duration,
    waiting: Vec<(Instant, T)>,
}

impl<T> Mixer<T> {
    /// Returns an empty mixer, with delays of up to `longest`, and at most a day.
    pub fn new(longest: Duration) -> Self {
        Self {
            longest: longest.min(DAY),
            waiting: Vec::new(),
        }
    }

    /// Adds an item, which is due after a random delay.
    pub fn add(&mut self, thing: T) {
        let due = Instant::now() + self.longest.mul_f64(fastrand::f64());
        self.waiting.push((due, thing));
    }

    /// Waits until the next item is due, and takes it out. Never returns while there is none. Cancel safe.
    pub async fn next(&mut self) -> T {
        let first = self.waiting.iter().enumerate();
        let Some((index, due)) = first
            .map(|(index, (due, _))| (index, *due))
            .min_by_key(|(_, due)| *due)
        else {
            return std::future::pending().await;
        };
        sleep_until(due).await;
        self.waiting.swap_remove(index).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn things_come_out_once_each_within_the_longest_delay() {
        let longest = Duration::from_millis(500);
        let mut mixer = Mixer::new(longest);
        let begun = Instant::now();
        (0..100).for_each(|thing| mixer.add(thing));
        let mut order = Vec::new();
        for _ in 0..100 {
            order.push(mixer.next().await);
            assert!(begun.elapsed() <= longest + Duration::from_millis(1));
        }
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(order, sorted, "no order changed");
    }

    #[tokio::test(start_paused = true)]
    async fn delay_beyond_the_clock_is_shortened() {
        let mut mixer = Mixer::new(Duration::MAX);
        let begun = Instant::now();
        (0..100).for_each(|thing| mixer.add(thing));
        for _ in 0..100 {
            mixer.next().await;
        }
        assert!(begun.elapsed() <= DAY + Duration::from_millis(1));
    }
}
