//! A permit to make one call, by which its result is recorded.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{CircuitBreaker, counters::Outcome, shared::Ticket, verdict::Verdict};

/// The meaning of a result for the health of the dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The dependency works. A refusal is a success, too: a 404 or a declined card comes from a dependency that is
    /// alive.
    Success,
    /// The dependency is down, overloaded or too slow.
    Failure,
    /// Neither: the call did not reach the dependency (a full bulkhead, a bad argument).
    Ignored,
}

/// An error that knows its meaning for the dependency's health.
///
/// A timeout must be a [`Class::Failure`]: it is what most outages look like. Count as failures only those that a pause
/// could cure. Otherwise one customer with a wrong request cuts off all the others.
pub trait Classify {
    /// Returns the class of this error.
    fn class(&self) -> Class;
}

/// A permit to make one call, from [`CircuitBreaker::try_acquire`].
///
/// End it by recording a result. A permit that is dropped without one counts as cancelled: a probe's place is freed,
/// and the breaker learns nothing. A permit that is dropped by a panic counts as a failure.
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    ticket: Ticket,
    /// The start of the call, in nanoseconds since the breaker was made, if the policy looks at slow calls. Not an
    /// `Option<Instant>`: moving that into a future and out again costs as much as all the rest of a call.
    began: u64,
}

impl<'a> Permit<'a> {
    #[inline]
    pub(super) fn new(breaker: &'a CircuitBreaker, ticket: Ticket) -> Self {
        Self {
            breaker,
            ticket,
            began: breaker.inner.begin(),
        }
    }

    /// Restarts the call's clock, after a wait within this process that is not the dependency's fault, such as for a
    /// bulkhead's place.
    pub fn restart_clock(&mut self) {
        self.began = self.breaker.inner.begin();
    }

    /// Records that the dependency answered well. The breaker checks whether it was slow, if its policy looks at that.
    #[inline]
    pub fn success(self) {
        self.record(Class::Success);
    }

    /// Records that the dependency failed.
    #[inline]
    pub fn failure(self) {
        self.record(Class::Failure);
    }

    /// Records a result that says nothing about the dependency.
    #[inline]
    pub fn ignore(self) {
        self.record(Class::Ignored);
    }

    /// Records a result by its class.
    #[inline]
    pub fn record(self, class: Class) {
        // Nothing in the permit needs dropping, and its `drop` would record a second result.
        std::mem::ManuallyDrop::new(self).settle(Some(class));
    }

    /// Records the result; `None` for a call that was dropped.
    #[inline]
    fn settle(&self, class: Option<Class>) {
        match self.breaker.inner.slow_from {
            None => tell(self.breaker, self.ticket, class, false, Instant::now),
            Some(limit) => {
                let began = self.breaker.inner.made + Duration::from_nanos(self.began);
                settle_measured(self.breaker, self.ticket, class, began, limit);
            }
        }
    }
}

// A function of its own, so that the path without a clock is short enough to be inlined. By value, so that the
// arguments stay in registers.
#[inline(never)]
fn settle_measured(
    breaker: &CircuitBreaker,
    ticket: Ticket,
    class: Option<Class>,
    began: Instant,
    limit: Duration,
) {
    let ended = Instant::now();
    let slow = ended.duration_since(began) > limit;
    tell(breaker, ticket, class, slow, || ended);
}

#[inline]
fn tell(
    breaker: &CircuitBreaker,
    ticket: Ticket,
    class: Option<Class>,
    slow: bool,
    now: impl Fn() -> Instant,
) {
    let (verdict, outcome) = match class {
        Some(Class::Success) if slow => (Verdict::Success { slow }, Outcome::Slow),
        Some(Class::Success) => (Verdict::Success { slow }, Outcome::Succeeded),
        Some(Class::Failure) => (Verdict::Failure { slow }, Outcome::Failed),
        Some(Class::Ignored) => (Verdict::Ignored, Outcome::Ignored),
        None => (Verdict::Cancelled, Outcome::Cancelled),
    };
    let inner = &*breaker.inner;
    inner.counters.count(outcome);
    let on_change = |change: &_| inner.observer.changed(change);
    inner.shared.record(ticket, verdict, now, on_change);
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.settle(std::thread::panicking().then_some(Class::Failure));
    }
}

impl fmt::Debug for Permit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("breaker", &self.breaker.name())
            .finish_non_exhaustive()
    }
}
