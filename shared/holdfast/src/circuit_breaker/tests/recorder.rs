//! A metrics registry for these tests: no larger than they need.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, SharedString, Unit,
};

/// Values by "name label label", each a whole number.
#[derive(Debug, Default)]
pub(super) struct Recorder(Mutex<BTreeMap<String, Arc<Value>>>);

#[derive(Debug, Default)]
struct Value(AtomicU64);

impl Recorder {
    pub(super) fn value(&self, key: &str) -> u64 {
        let values = self.0.lock().expect("no test panics with it");
        let value = values
            .get(key)
            .unwrap_or_else(|| panic!("no {key} in {values:?}"));
        value.0.load(Ordering::Relaxed)
    }

    fn entry(&self, key: &Key) -> Arc<Value> {
        let labels = key.labels().map(metrics::Label::value);
        let key = [key.name()]
            .into_iter()
            .chain(labels)
            .collect::<Vec<_>>()
            .join(" ");
        let mut values = self.0.lock().expect("no test panics with it");
        Arc::clone(values.entry(key).or_default())
    }
}

impl CounterFn for Value {
    fn increment(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Ordering::Relaxed);
    }
}

impl GaugeFn for Value {
    fn increment(&self, _: f64) {
        unreachable!("a state is set");
    }

    fn decrement(&self, _: f64) {
        unreachable!("a state is set");
    }

    fn set(&self, value: f64) {
        self.0.store(u64::from(value > 0.5), Ordering::Relaxed);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.entry(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.entry(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        unreachable!("a breaker measures nothing")
    }
}
