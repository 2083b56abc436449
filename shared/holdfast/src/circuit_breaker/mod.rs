//! Circuit breaker: stop calling a dependency that does not answer.
//!
//! # Problem
//!
//! The card processor hangs. Each payment waits for it until its timeout, 5 s long; soon all workers are waiting, and a
//! refund that needs no card waits behind them. When the processor comes back, thousands of calls that piled up hit it
//! in the same second, and it goes down again. Its callers knew after five calls that it was unavailable, and went on
//! calling.
//!
//! # Guarantee
//!
//! When too many calls fail (in a row, or as a share of the latest), or are too slow, the breaker *opens*: it rejects
//! calls at once, and [`Rejected::retry_after`] says when to try again. After that time it is *half-open*: it permits
//! exactly [`HalfOpen::permitted_calls`] probes, however many threads call. If enough of them succeed it *closes*, else
//! it opens again, for longer. The result of a call that began in an earlier state is ignored. A probe that is dropped
//! frees its place; a call that panics has failed.
//!
//! # Not guaranteed
//!
//! That a call ends: that takes a deadline, which must sit *inside* the breaker, or the breaker sees a cancelled call
//! where the dependency hung. That a dead dependency is never called: each process has a breaker of its own and finds
//! out for itself. That a rejection is harmless: the call was not made, so its caller has to try again later or do
//! without ([`Error::Open`] is where the fallback goes).
//!
//! # States
//!
//! ```text
//!              policy                  wait over, and a call
//!   Closed ------------->  Open  -------------------------->  HalfOpen
//!     ^                      ^    too many failed, or no answer  |  |
//!     |                      +-----------------------------------+  |
//!     +-------------------------------------------------------------+
//!                             enough succeeded
//!   any state  --force_open-->  ForcedOpen,  --force_closed-->  ForcedClosed,  --reset-->  Closed
//! ```
//!
//! # Failure modes
//!
//! Errors that are the caller's own fault, classed as failures, cut off every caller: see [`Classify`]. One breaker for
//! several destinations cuts off the healthy ones with the sick one: make one for each. Without traffic nothing
//! happens: an open breaker waits for a call before it probes. A half-open breaker whose probes hang opens again after
//! [`HalfOpen::maximum_wait`]; a probe that merely takes longer than that is never good enough.
//!
//! ```
//! use holdfast::circuit_breaker::{CircuitBreaker, Class, Classify, Config, Error, Policy, State};
//!
//! #[derive(Debug)]
//! enum CardError { Unreachable, Declined }
//! impl Classify for CardError {
//!     fn class(&self) -> Class {
//!         // A declined card is an answer: the processor is alive.
//!         match self { CardError::Unreachable => Class::Failure, CardError::Declined => Class::Success }
//!     }
//! }
//! async fn charge() -> Result<u32, CardError> { Err(CardError::Unreachable) }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let policy = Policy::Consecutive { failures: 2 };
//! let breaker = CircuitBreaker::new("card-processor", Config { policy, ..Config::default() }).expect("valid");
//! for _ in 0..2 {
//!     assert!(matches!(breaker.call(charge).await, Err(Error::Call(CardError::Unreachable))));
//! }
//! match breaker.call(charge).await {
//!     // `charge` was not called: the fallback goes here.
//!     Err(Error::Open(rejected)) => assert!(rejected.retry_after.is_some()),
//!     other => panic!("{other:?}"),
//! }
//! assert_eq!(breaker.state(), State::Open);
//! # }
//! ```
//!
//! # Metrics
//!
//! `circuit_breaker_state{name,state}`, `circuit_breaker_transitions_total{name,to}`,
//! `circuit_breaker_calls_total{name,outcome}`. The last one is set by [`CircuitBreaker::publish`]: call it about once
//! a second. Counting each call in a registry would cost more than everything else that a closed breaker does. Make
//! breakers after the recorder is installed, and give each a name of its own.
//!
//! # Copying this
//!
//! This folder, and the crates `metrics`, `thiserror`, `tokio` (`sync`, `time`) and `tracing`; for its tests `loom`,
//! `proptest` and `tokio` (`macros`, `rt`, `test-util`). Read it in this order: `machine.rs` (all the states),
//! `window.rs`, `shared.rs` (how threads share them), `permit.rs`, this file. Alternatives: `recloser` (as fast; a
//! window by count, and half-open permits every call), `failsafe` (a mutex on every call), `tower-resilience` (for
//! tower services).
//!
//! Sources: Michael Nygard, "Release It!", chapter 5; Martin Fowler, "CircuitBreaker"; the documentation of
//! resilience4j and of Polly v8; Google, "Site Reliability Engineering", chapter 22.

mod config;
mod counters;
mod error;
mod event;
mod machine;
mod observe;
mod permit;
mod shared;
mod trial;
mod verdict;
mod window;

/// The types that `shared` is built on. Its test with loom puts loom's in their place.
mod sync {
    pub(super) use std::sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    };
}

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::broadcast, time::Instant};

use counters::{Counters, Outcome};
use machine::{Machine, Refused};
use observe::Observer;
use shared::Shared;

pub use config::{Config, Growth, HalfOpen, InvalidConfig, Policy, SlowCalls, Window};
pub use error::{Error, Rejected};
pub use event::{Calls, Event, Reason, Snapshot, State};
pub use permit::{Class, Classify, Permit};

/// A circuit breaker around one dependency. Clones are the same breaker.
#[derive(Clone)]
pub struct CircuitBreaker {
    inner: Arc<Inner>,
}

struct Inner {
    counters: Counters,
    shared: Shared,
    observer: Observer,
    config: Config,
    /// [`SlowCalls::duration`], if the policy looks at it.
    slow_from: Option<Duration>,
    made: Instant,
}

impl Inner {
    /// Returns the current time, in nanoseconds since `made`; 0 if the policy does not look at durations.
    #[inline]
    fn begin(&self) -> u64 {
        match self.slow_from {
            None => 0,
            Some(_) => u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl CircuitBreaker {
    /// Returns a closed breaker around the dependency `name`. The name is a label of its metrics, so it must be unique
    /// in the process.
    pub fn new(name: impl Into<Arc<str>>, config: Config) -> Result<Self, InvalidConfig> {
        config.check()?;
        let machine = Machine::new(config, random, Instant::now());
        Ok(Self {
            inner: Arc::new(Inner {
                counters: Counters::default(),
                shared: Shared::new(machine),
                observer: Observer::new(name.into()),
                config,
                slow_from: config.slow_from(),
                made: Instant::now(),
            }),
        })
    }

    /// Returns the dependency's name.
    pub fn name(&self) -> &str {
        self.inner.observer.name()
    }

    /// Returns the breaker's settings.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Requests a permit for one call; never waits. The caller records the call's result with the [`Permit`].
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<'_>, Rejected> {
        let inner = &*self.inner;
        match inner
            .shared
            .acquire(Instant::now, |change| inner.observer.changed(change))
        {
            Ok(ticket) => Ok(Permit::new(self, ticket)),
            Err(refused) => Err(self.reject(refused)),
        }
    }

    /// Requests a permit for one call that has too little time to show whether the dependency works: it is admitted as
    /// by [`CircuitBreaker::try_acquire`] while the breaker is closed, and never as a probe.
    ///
    /// A probe that its caller abandons shows nothing, and until then it takes the place of one that would. If no
    /// caller has more time, the breaker stays open.
    pub fn try_acquire_in_a_hurry(&self) -> Result<Permit<'_>, Rejected> {
        if !matches!(self.state(), State::Closed | State::ForcedClosed) {
            let now = Instant::now();
            let refused = self.locked(|machine| {
                machine.expire(now);
                machine.refusal_of_probe(now)
            });
            if let Some(refused) = refused {
                return Err(self.reject(refused));
            }
        }
        self.try_acquire()
    }

    #[cold]
    fn reject(&self, Refused { state, retry_after }: Refused) -> Rejected {
        self.inner.counters.count(Outcome::Rejected);
        Rejected {
            name: Arc::clone(self.inner.observer.name()),
            state,
            retry_after,
        }
    }

    /// Makes one call, if the breaker permits it, and records its result: `Ok` is a success, an error is what its
    /// [`Classify`] says.
    ///
    /// Cancel safe if `op` is; a dropped call counts as cancelled. A panic of `op` counts as a failure and continues.
    #[inline]
    pub async fn call<T, E: Classify, F: Future<Output = Result<T, E>>>(
        &self,
        op: impl FnOnce() -> F,
    ) -> Result<T, Error<E>> {
        let permit = self.try_acquire()?;
        let result = op().await;
        permit.record(result.as_ref().err().map_or(Class::Success, E::class));
        result.map_err(Error::Call)
    }

    /// Makes one call as [`CircuitBreaker::call`] does, with `class` to judge its result: for errors of other crates,
    /// and for clients whose `Ok` may be a 503. Cancel safe if `op` is.
    pub async fn call_classed<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        class: impl FnOnce(&Result<T, E>) -> Class,
        op: impl FnOnce() -> F,
    ) -> Result<T, Error<E>> {
        let permit = self.try_acquire()?;
        let result = op().await;
        permit.record(class(&result));
        result.map_err(Error::Call)
    }

    /// Returns the state as of the last call or command. One atomic load: a wait that has ended since then is not
    /// considered.
    pub fn state(&self) -> State {
        self.inner.shared.state()
    }

    /// Returns the current state, counts and rates, for an operator.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        self.locked(|machine| {
            machine.expire(now);
            let tally = machine.tally(now);
            Snapshot {
                state: machine.state(),
                state_for: now.saturating_duration_since(machine.since()),
                calls: self.inner.counters.sum(),
                window_calls: tally.map(|tally| tally.calls),
                failure_rate: tally.map(window::Tally::failure_rate),
                slow_call_rate: tally
                    .filter(|_| self.inner.slow_from.is_some())
                    .map(window::Tally::slow_call_rate),
                retry_after: machine
                    .open_until()
                    .map(|until| until.saturating_duration_since(now)),
                consecutive_failures: machine.failures_in_a_row(),
            }
        })
    }

    /// Rejects every call until [`CircuitBreaker::reset`] or [`CircuitBreaker::force_closed`]: for an operator who
    /// knows that the dependency is going down.
    pub fn force_open(&self) {
        self.locked(|machine| machine.force_open(Instant::now()));
    }

    /// Admits every call until [`CircuitBreaker::reset`] or [`CircuitBreaker::force_open`]: for an operator who knows
    /// better than the counts.
    pub fn force_closed(&self) {
        self.locked(|machine| machine.force_closed(Instant::now()));
    }

    /// Closes the breaker, makes it automatic again, and forgets all results. The calls of [`Snapshot::calls`] stay
    /// counted.
    pub fn reset(&self) {
        self.locked(|machine| machine.reset(Instant::now()));
    }

    /// Returns a receiver of every change of state from now on. It never holds up a call: a receiver that is more than
    /// 64 events behind loses the oldest, and its next `recv` returns how many.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.observer.listen()
    }

    /// Updates the metrics. Call it about once a second.
    pub fn publish(&self) {
        let now = Instant::now();
        self.locked(|machine| {
            machine.expire(now);
            let calls = self.inner.counters.sum();
            self.inner.observer.publish(machine.state(), calls);
        });
    }

    fn locked<T>(&self, work: impl FnOnce(&mut Machine) -> T) -> T {
        let on_change = |change: &machine::Change| self.inner.observer.changed(change);
        self.inner.shared.locked(on_change, work)
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// Returns a number from 0 to 1. Jitter needs no more than std has: a hasher with new keys each time, and nothing to
/// hash.
fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 12;
    #[expect(clippy::cast_precision_loss, reason = "52 bits fit")]
    let numerator = bits as f64;
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let denominator = (1_u64 << 52) as f64;
    numerator / denominator
}

#[cfg(test)]
mod tests;
