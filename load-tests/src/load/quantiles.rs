//! Exact quantiles: each latency is kept, in four bytes.

use std::time::Duration;

use serde::Serialize;

/// Latencies in microseconds, unsorted.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<u32>);

/// Statistics of some latencies, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The number of latencies.
    pub count: usize,
    /// The 50th percentile.
    pub p50_ms: f64,
    /// The 95th percentile.
    pub p95_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
    /// The longest of them.
    pub max_ms: f64,
}

impl Latencies {
    /// Adds a latency. One of more than 71 minutes counts as 71 minutes.
    pub fn add(&mut self, latency: Duration) {
        self.0
            .push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
    }

    /// Adds all latencies of another set.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// Returns the number of latencies.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Computes the statistics.
    pub fn summary(&self) -> Summary {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |per_mille| f64::from(nearest_rank(&sorted, per_mille)) / 1000.0;
        Summary {
            count: sorted.len(),
            p50_ms: at(500),
            p95_ms: at(950),
            p99_ms: at(990),
            max_ms: at(1000),
        }
    }
}

/// Returns the smallest value that at least `per_mille` of a thousand do not exceed; 0 if there is none.
fn nearest_rank(sorted: &[u32], per_mille: usize) -> u32 {
    let rank = (sorted.len() * per_mille).div_ceil(1000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        for millis in millis {
            latencies.add(Duration::from_millis(millis));
        }
        latencies
    }

    #[test]
    fn nearest_rank_is_one_of_the_values() {
        let summary = of((1..=100).rev()).summary();
        assert_eq!(
            (
                summary.p50_ms,
                summary.p95_ms,
                summary.p99_ms,
                summary.max_ms
            ),
            (50.0, 95.0, 99.0, 100.0)
        );
        assert_eq!(summary.count, 100);
    }

    #[test]
    fn few_values_do_not_hide_the_slowest() {
        assert!((of([7]).summary().p50_ms - 7.0).abs() < f64::EPSILON);
        let two = of([1, 9]).summary();
        assert_eq!((two.p50_ms, two.p95_ms, two.p99_ms), (1.0, 9.0, 9.0));
        assert_eq!(of([]).summary(), Summary::default());
    }

    #[test]
    fn summary_of_two_sets_is_that_of_all_their_values() {
        let mut one = of(1..=50);
        one.extend(&of(51..=100));
        assert_eq!(one.summary(), of(1..=100).summary());
    }
}
