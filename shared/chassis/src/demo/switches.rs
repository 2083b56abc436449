//! Features that a demonstration may switch off, to show their use.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A feature that is on until a demonstration switches it off, in this process and until it ends. A copy is the same
/// switch.
#[derive(Clone, Debug)]
pub struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    what: &'static str,
    is_on: AtomicBool,
}

impl Switch {
    /// Makes a switch that is on. `what` describes the feature to people.
    pub fn new(name: &'static str, what: &'static str) -> Self {
        Self(Arc::new(Inner {
            name,
            what,
            is_on: AtomicBool::new(true),
        }))
    }

    /// Returns whether the feature is on.
    pub fn is_on(&self) -> bool {
        self.0.is_on.load(Ordering::Relaxed)
    }

    pub(super) fn name(&self) -> &'static str {
        self.0.name
    }

    pub(super) fn what(&self) -> &'static str {
        self.0.what
    }

    pub(super) fn set(&self, on: bool) {
        self.0.is_on.store(on, Ordering::Relaxed);
    }
}
