//! # Circuit breaker: stop calling what does not answer
//!
//! **Problem.** The card processor hangs. Each payment waits for it until its timeout, 5 s long; the workers are soon all
//! waiting, and a refund that needs no card waits behind them. When the processor comes back, thousands of calls that piled up
//! hit it in the same second, and it goes down again. The callers knew after five calls that it was away; they went on asking.
//!
//! **Guarantee.** When enough calls failed (in a row, or as a share of the latest ones; or were too slow), the breaker *opens*:
//! calls are rejected at once, with [`Rejected::retry_after`] to say when to come back. After that time it is *half-open*: exactly
//! [`HalfOpen::permitted_calls`] calls may try, from however many threads. If they succeed it *closes*, else it opens again, for
//! longer. A call that began in an earlier state has no say in a later one. A call that is dropped gives its place back; one
//! that panics has failed.
//!
//! **Not guaranteed.** That a call ends: that is a deadline's work, and it must sit *inside* the breaker, or
//! the breaker sees a cancelled call where the dependency hung. That nobody calls a dead dependency: each process has its own
//! breaker and finds out for itself. That a rejected call is harmless: it did not happen, and somebody has to try it again later,
//! or do without ([`Error::Open`] is where the fallback goes).
//!
//! **States.**
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
//! **Failure modes.** Errors that are the caller's own fault, classed as failures, cut off everybody: see [`Classify`]. One
//! breaker for several destinations cuts off the healthy ones with the sick one: make one for each. Without traffic nothing
//! happens: an open breaker waits for a call before it tries. A half-open breaker whose probes hang opens again after
//! [`HalfOpen::maximum_wait`]; a probe that only needs longer than that is never good enough.
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
//!     Err(Error::Open(rejected)) => assert!(rejected.retry_after.is_some()), // `charge` was not called: here goes the fallback
//!     other => panic!("{other:?}"),
//! }
//! assert_eq!(breaker.state(), State::Open);
//! # }
//! ```
//!
//! **Metrics.** `circuit_breaker_state{name,state}`, `circuit_breaker_transitions_total{name,to}`,
//! `circuit_breaker_calls_total{name,outcome}`. The last one is set by [`CircuitBreaker::publish`], which somebody has to call,
//! once a second, say: counting a call in a registry would cost more than all else that a closed breaker does. Make breakers after
//! the recorder is installed, and give each a name of its own.
//!
//! **Copying this.** This folder, and the crates `metrics`, `thiserror`, `tokio` (`sync`, `time`) and `tracing`; for its tests
//! `loom`, `proptest` and `tokio` (`macros`, `rt`, `test-util`). Read it in this order: `machine.rs` (all the states), `window.rs`,
//! `shared.rs` (how threads share them), `permit.rs`, this file. What people take otherwise: `recloser` (as fast; a window by
//! count, and half-open lets everything through), `failsafe` (a mutex on every call), `tower-resilience` (for tower services).
//!
//! Sources: Michael Nygard, "Release It!", chapter 5; Martin Fowler, "CircuitBreaker"; the documentation of resilience4j and
//! of Polly v8; Google, "Site Reliability Engineering", chapter 22.

mod config;
mod counters;
mod error;
mod event;
mod machine;
mod observe;
mod permit;
mod shared;
mod trial;
mod window;

/// What `shared` is built on. Its test with loom puts loom's own here.
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
    /// Now, in nanoseconds since `made`, if anybody will want to know.
    #[inline]
    fn begin(&self) -> u64 {
        match self.slow_from {
            None => 0,
            Some(_) => u64::try_from(self.made.elapsed().as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

impl CircuitBreaker {
    /// A closed breaker around the dependency `name`, which is a label of its metrics: unique in the process.
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

    /// The dependency's name.
    pub fn name(&self) -> &str {
        self.inner.observer.name()
    }

    /// How it was configured.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// Asks to make one call. The verdict is given to the [`Permit`].
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

    /// Asks to make one call that has too little time to tell anything about the dependency: as
    /// [`CircuitBreaker::try_acquire`] while the breaker is closed, and never as a probe.
    ///
    /// A probe that is given up by its caller teaches nothing, and while it is out it takes the place of one that would. If
    /// no caller has more time, the breaker stays open.
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

    /// Makes one call, if the breaker lets it through, and counts its result: `Ok` is a success, and an error is what it says.
    ///
    /// Cancel safe if `op` is: dropped, it counts as cancelled. A panic of `op` counts as a failure and goes on to the caller.
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

    /// As [`CircuitBreaker::call`], where the caller says what a result means: for errors of other crates, and for clients
    /// whose `Ok` may be a 503.
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

    /// The state as of the last call or command. One atomic load: no waiting time is looked at.
    pub fn state(&self) -> State {
        self.inner.shared.state()
    }

    /// How it stands now, for an operator's eyes.
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

    /// Rejects every call until [`CircuitBreaker::reset`] or [`CircuitBreaker::force_closed`]: the operator knows that the
    /// dependency is going away.
    pub fn force_open(&self) {
        self.locked(|machine| machine.force_open(Instant::now()));
    }

    /// Lets every call through until [`CircuitBreaker::reset`] or [`CircuitBreaker::force_open`]: the operator knows better
    /// than the counts.
    pub fn force_closed(&self) {
        self.locked(|machine| machine.force_closed(Instant::now()));
    }

    /// Automatic again, and closed, with nothing remembered. The calls of [`Snapshot::calls`] stay counted.
    pub fn reset(&self) {
        self.locked(|machine| machine.reset(Instant::now()));
    }

    /// Every change of state from now on. It never holds up a call: a listener that is more than 64 events behind loses the
    /// oldest, and its next `recv` says how many.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.observer.listen()
    }

    /// Brings the metrics up to date. For whoever samples such things about once a second.
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

/// From 0 to 1. Jitter needs no more than what std has: a hasher with keys that differ each time, and nothing hashed.
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
