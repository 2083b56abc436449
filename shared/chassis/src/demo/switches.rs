//! What a demonstration may do without, to show what it is good for.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Something that is on until a demonstration switches it off, in this process and for now. A copy is the same switch.
#[derive(Clone, Debug)]
pub struct Switch(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    what: &'static str,
    is_on: AtomicBool,
}

impl Switch {
    /// A switch that is on. `what` says for a person what is on then.
    pub fn new(name: &'static str, what: &'static str) -> Self {
        Self(Arc::new(Inner {
            name,
            what,
            is_on: AtomicBool::new(true),
        }))
    }

    /// Whether it is on.
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
