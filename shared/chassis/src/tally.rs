//! Counts that wait for a transaction to commit: a counter must not include work that was rolled back.

use std::{
    mem,
    sync::{Mutex, PoisonError},
};

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

/// The tally of a consumer's batch, between the handler's end and the commit.
///
/// A queue has one batch in hand at a time, and its handler has one of these. A batch that runs again replaces the
/// tally of its first run, so work that was rolled back is never counted.
#[derive(Default)]
pub struct Held(Mutex<Tally>);

impl Held {
    /// Keeps the tally of a batch that the handler has finished.
    pub fn hold(&self, tally: Tally) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = tally;
    }

    /// Counts the batch. Call it after the commit.
    pub fn count(&self) {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).count();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use metrics::{Counter, CounterFn};

    use super::{Held, Tally};

    #[derive(Default)]
    struct Seen(AtomicU64);

    impl CounterFn for Seen {
        fn increment(&self, value: u64) {
            self.0.fetch_add(value, Ordering::Relaxed);
        }

        fn absolute(&self, value: u64) {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    #[test]
    fn only_a_committed_run_is_counted_and_only_once() {
        let seen = Arc::new(Seen::default());
        let tally = |by| {
            let mut tally = Tally::default();
            tally.add(Counter::from_arc(Arc::clone(&seen)), by);
            tally
        };
        let held = Held::default();
        held.hold(tally(5));
        held.hold(tally(2));
        assert_eq!(seen.0.load(Ordering::Relaxed), 0);
        held.count();
        held.count();
        assert_eq!(seen.0.load(Ordering::Relaxed), 2);
    }
}
