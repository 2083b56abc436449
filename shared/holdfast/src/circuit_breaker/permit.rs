//! The right to make one call, and the duty to say how it went.

use std::{fmt, time::Duration};

use tokio::time::Instant;

use super::{CircuitBreaker, counters::Outcome, machine::Verdict, shared::Ticket};

/// What a result says about the health of the dependency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It works. A refusal is a success, too: a 404 or a declined card comes from a dependency that is alive.
    Success,
    /// It is down, overloaded or too slow.
    Failure,
    /// Neither: the call did not get as far (a full bulkhead, a bad argument).
    Ignored,
}

/// An error that knows what it says about the dependency's health.
///
/// A timeout must be a [`Class::Failure`]: it is how most outages look. Count as failures only what a pause could cure.
/// Otherwise one customer with a wrong request closes the shop for all the others.
pub trait Classify {
    /// What this error says.
    fn class(&self) -> Class;
}

/// The right to make one call, from [`CircuitBreaker::try_acquire`].
///
/// End it with a verdict. Dropped without one it counts as cancelled: a half-open place becomes free, and the breaker learns
/// nothing. Dropped by a panic it counts as a failure.
#[must_use = "a permit that is dropped counts as a cancelled call"]
pub struct Permit<'a> {
    breaker: &'a CircuitBreaker,
    ticket: Ticket,
    /// When the call began: nanoseconds since the breaker was made, if the policy looks at slow calls. Not an
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

    /// The call begins only now: it waited in this process for something else, such as a bulkhead's place, and the
    /// dependency is not to blame for that.
    pub fn restart_clock(&mut self) {
        self.began = self.breaker.inner.begin();
    }

    /// The dependency answered well. Too slowly, maybe: the breaker looks at the clock if its policy does.
    #[inline]
    pub fn success(self) {
        self.record(Class::Success);
    }

    /// The dependency failed.
    #[inline]
    pub fn failure(self) {
        self.record(Class::Failure);
    }

    /// The result says nothing about the dependency.
    #[inline]
    pub fn ignore(self) {
        self.record(Class::Ignored);
    }

    /// The result, by its class.
    #[inline]
    pub fn record(self, class: Class) {
        // Nothing in it needs dropping, and its own drop is for those who say nothing.
        std::mem::ManuallyDrop::new(self).settle(Some(class));
    }

    /// `None`: there is no result.
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

// Apart, so that what needs no clock is short enough to be inlined; and by value, so that it stays in registers.
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
