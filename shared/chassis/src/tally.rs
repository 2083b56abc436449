//! Counts that wait for a transaction to commit: a counter must not include work that was rolled back.

use metrics::{Counter, Histogram};

/// The counts to be made if the transaction commits.
#[derive(Default)]
#[must_use = "it counts nothing until the transaction has committed and `count` is called"]
pub struct Tally {
    counters: Vec<(Counter, u64)>,
    histograms: Vec<(Histogram, f64)>,
}

impl Tally {
    /// Adds `by` to a counter, once [`Tally::count`] is called.
    pub fn add(&mut self, counter: Counter, by: u64) {
        self.counters.push((counter, by));
    }

    /// Records `value` in a histogram, once [`Tally::count`] is called.
    pub fn record(&mut self, histogram: Histogram, value: f64) {
        self.histograms.push((histogram, value));
    }

    /// Adds the counts of another tally to this one's.
    pub fn extend(&mut self, other: Self) {
        self.counters.extend(other.counters);
        self.histograms.extend(other.histograms);
    }

    /// Makes the counts. Call it after the commit.
    pub fn count(self) {
        for (counter, by) in self.counters {
            counter.increment(by);
        }
        for (histogram, value) in self.histograms {
            histogram.record(value);
        }
    }
}
