//! # Pipeline: deadline, retry, circuit breaker and bulkhead, in the right order
//!
//! **Problem.** Each of the four is easy. Together they go wrong in the order in which they are put: a retry inside of the
//! circuit breaker makes one failure of three; a bulkhead around the breaker lets calls queue for a dependency that is known
//! to be dead; a breaker around a full bulkhead takes our own crowd for the dependency's failure, and opens; a retry around
//! a timeout of its own works on long after the customer has left.
//!
//! **Guarantee.** One order, and the answers that go with it:
//!
//! 1. the caller's [`Deadline`], around everything: no wait and no try goes beyond it;
//! 2. [`Retry`]: what is safe to repeat, within its [budget](crate::retry::Budget);
//! 3. [`CircuitBreaker`]: each try is counted by itself; while it is open, nobody queues;
//! 4. [`Bulkhead`]: a place, or a wait that is bounded;
//! 5. the try, with a time limit of its own ([`Pipeline::attempt_timeout`]).
//!
//! Only the try's own answer says something about the dependency ([`Classify`]). A full bulkhead, a caller that went away, and
//! a caller that gave less time than a try is granted, say nothing, and count nothing. A caller that has less than a quarter of
//! that time takes no half-open place: it is rejected until the breaker is closed. An open breaker and a full bulkhead
//! are answered at once, and never retried: that is what they are for.
//!
//! **Not guaranteed.** That a try which ran out of time did nothing: see [`deadline`](crate::deadline). Its error decides, by
//! [`Retryable`], whether that may be repeated.
//!
//! **States.** Those of its parts. Share one pipeline between all calls to one dependency.
//!
//! **Failure modes.** With [`GaveUp`] the caller knows which part said no; what to do then is the fallback, and the caller's: an
//! answer from a cache, a place in a queue, an honest 503.
//!
//! ```
//! use std::time::Duration;
//! use holdfast::{
//!     circuit_breaker::{Class, Classify},
//!     deadline::{Deadline, Exceeded},
//!     pipeline::Pipeline,
//!     retry::{Advice, Retry, Retryable},
//!     backoff::Backoff,
//! };
//!
//! #[derive(Debug)]
//! enum CallError { Busy, Late }
//! impl From<Exceeded> for CallError { fn from(_: Exceeded) -> Self { Self::Late } }
//! impl Retryable for CallError {
//!     fn advice(&self) -> Advice { match self { Self::Busy => Advice::Backoff, Self::Late => Advice::Never } }
//! }
//! impl Classify for CallError { fn class(&self) -> Class { Class::Failure } }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let prices = Pipeline::new("inventory")
//!     .retry(Retry::new(3, Backoff::RECONNECT))
//!     .attempt_timeout(Duration::from_millis(500));
//! let answer = prices
//!     .run(Deadline::after(Duration::from_secs(2)), async |attempt| {
//!         if attempt.number == 1 { Err(CallError::Busy) } else { Ok(7) }
//!     })
//!     .await;
//! assert_eq!(answer.unwrap(), 7);
//! # }
//! ```
//!
//! **Copying this.** This folder, `backoff`, `bulkhead`, `circuit_breaker`, `deadline`, `retry` and their crates. What people take
//! otherwise: `tower::ServiceBuilder`, whose layers can be put in any order, the wrong ones too (decision 0019 says why
//! this is not one), or `failsafe` (breaker alone).
//!
//! Sources: Polly's "Resilience pipelines" and resilience4j's "Getting started" (the order of their aspects); Google, "Site
//! Reliability Engineering", chapters 21 and 22; Brooker, "Timeouts, retries, and backoff with jitter" (Amazon Builders'
//! Library).

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::{Counter, counter};

use crate::{
    bulkhead::{self, Bulkhead},
    circuit_breaker::{self, CircuitBreaker, Class, Classify, Permit},
    deadline::{Deadline, Exceeded},
    retry::{Advice, Budget, GaveUp, Retry, Retryable},
};

/// How calls to one dependency are made. Every part may be left out, but for the caller's deadline. Clones share their
/// parts.
#[derive(Clone, Debug)]
pub struct Pipeline {
    name: Arc<str>,
    retry: Retry,
    breaker: Option<CircuitBreaker>,
    bulkhead: Option<Bulkhead>,
    attempt_timeout: Option<Duration>,
    drill: Arc<Drill>,
    retries: Counter,
}

/// What a drill does to it.
#[derive(Debug)]
struct Drill {
    /// Each try fails at once.
    cut_off: AtomicBool,
    /// Whether the caller answers without the dependency when it cannot be asked.
    fallback: AtomicBool,
}

/// One try.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The first is 1.
    pub number: u32,
    /// When it has to be over: pass it on, so that what is called knows, too.
    pub deadline: Deadline,
}

/// Why a try brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// The circuit breaker is open: the dependency was not asked. Answer without it.
    #[error(transparent)]
    Open(#[from] circuit_breaker::Rejected),
    /// The bulkhead is full: the dependency was not asked. Answer without it.
    #[error(transparent)]
    Full(#[from] bulkhead::Full),
    /// The dependency was asked. Whether something happened there, and what to do about it, is the error's to say.
    #[error("{0}")]
    Call(#[source] E),
}

impl<E: Retryable> Retryable for Error<E> {
    fn advice(&self) -> Advice {
        match self {
            // That would be the storm that both are there to prevent.
            Self::Open(_) | Self::Full(_) => Advice::Never,
            Self::Call(error) => error.advice(),
        }
    }
}

impl Pipeline {
    /// A pipeline to the dependency `name`, a label of its metrics, with the caller's deadline and nothing else.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            retries: counter!("retries_total", "name" => Arc::clone(&name)),
            name,
            retry: Retry::NEVER,
            breaker: None,
            bulkhead: None,
            attempt_timeout: None,
            drill: Arc::new(Drill {
                cut_off: AtomicBool::new(false),
                fallback: AtomicBool::new(true),
            }),
        }
    }

    /// Tries again as `retry` says. Without it, there is one try.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Asks `breaker` before each try, and tells it how the try went.
    pub fn breaker(self, breaker: CircuitBreaker) -> Self {
        Self {
            breaker: Some(breaker),
            ..self
        }
    }

    /// Takes a place in `bulkhead` for each try.
    pub fn bulkhead(self, bulkhead: Bulkhead) -> Self {
        Self {
            bulkhead: Some(bulkhead),
            ..self
        }
    }

    /// Longest that one try may take. A try that takes longer is the dependency's failure; one that ends because its caller
    /// had less time than this is nobody's.
    pub fn attempt_timeout(self, longest: Duration) -> Self {
        Self {
            attempt_timeout: Some(longest),
            ..self
        }
    }

    /// The dependency.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The budget of its retries, for whoever shows or switches it.
    pub fn get_budget(&self) -> Option<&Budget> {
        self.retry.budget()
    }

    /// Its breaker, for whoever shows or switches it.
    pub fn get_breaker(&self) -> Option<&CircuitBreaker> {
        self.breaker.as_ref()
    }

    /// Its bulkhead, for whoever shows or switches it.
    pub fn get_bulkhead(&self) -> Option<&Bulkhead> {
        self.bulkhead.as_ref()
    }

    /// Cuts the dependency off, and joins it again: while it is cut off each try fails at once, as if its time were over. For
    /// drills.
    pub fn set_cut_off(&self, cut_off: bool) {
        self.drill.cut_off.store(cut_off, Ordering::Relaxed);
    }

    /// Whether it is cut off.
    pub fn is_cut_off(&self) -> bool {
        self.drill.cut_off.load(Ordering::Relaxed)
    }

    /// Switches the caller's fallback off, and on again. It is the caller's: it asks [`Pipeline::may_fall_back`]. For drills.
    pub fn set_fallback(&self, enabled: bool) {
        self.drill.fallback.store(enabled, Ordering::Relaxed);
    }

    /// Whether the caller may answer without the dependency.
    pub fn may_fall_back(&self) -> bool {
        self.drill.fallback.load(Ordering::Relaxed)
    }

    /// Calls `op` until it succeeds, there is no point in one more try, or `deadline` passes.
    ///
    /// Cancel safe if `op` is: a call that is dropped leaves the bulkhead and counts nowhere.
    pub async fn run<T, E, F>(
        &self,
        deadline: Deadline,
        op: impl Fn(Attempt) -> F,
    ) -> Result<T, GaveUp<Error<E>>>
    where
        E: Retryable + Classify + From<Exceeded>,
        F: Future<Output = Result<T, E>>,
    {
        let op = &op;
        self.retry
            .run(deadline, |number| self.attempt(number, deadline, op))
            .await
    }

    /// Returns whether a caller has less than a quarter of the time that a try is granted. A dependency that is well may not
    /// answer within that, so its silence would say nothing: such a call is no probe.
    fn is_in_a_hurry(&self, deadline: Deadline) -> bool {
        let left = deadline.remaining().unwrap_or_default();
        self.attempt_timeout
            .is_some_and(|longest| left < longest / 4)
    }

    /// One try: breaker, bulkhead, time limit.
    async fn attempt<T, E, F>(
        &self,
        number: u32,
        deadline: Deadline,
        op: &impl Fn(Attempt) -> F,
    ) -> Result<T, Error<E>>
    where
        E: Retryable + Classify + From<Exceeded>,
        F: Future<Output = Result<T, E>>,
    {
        if number > 1 {
            self.retries.increment(1);
        }
        // Before the bulkhead: nobody waits for a place at what is known to be dead. From here on, whatever leaves without a
        // verdict gives the permit back uncounted.
        let mut permit = match &self.breaker {
            Some(breaker) if self.is_in_a_hurry(deadline) => {
                Some(breaker.try_acquire_in_a_hurry()?)
            }
            Some(breaker) => Some(breaker.try_acquire()?),
            None => None,
        };
        let _place = match &self.bulkhead {
            Some(bulkhead) => {
                let time = || deadline.remaining().unwrap_or_default();
                match bulkhead.acquire_within(time).await {
                    Ok(place) => Some(place),
                    Err(full) => {
                        // Our crowd, and not the dependency's failure.
                        permit.into_iter().for_each(Permit::ignore);
                        return Err(full.into());
                    }
                }
            }
            None => None,
        };
        if let Some(permit) = &mut permit {
            // The wait was ours, not the dependency's.
            permit.restart_clock();
        }
        let bound = match self.attempt_timeout {
            Some(longest) => deadline.within(longest),
            None => deadline,
        };
        let attempt = Attempt {
            number,
            deadline: bound,
        };
        let answer = async {
            if self.is_cut_off() {
                return Err(Exceeded.into());
            }
            op(attempt).await
        };
        let answer = match bound.run(answer).await {
            Ok(answer) => answer,
            Err(late) => Err(late.into()),
        };
        let class = match &answer {
            Ok(_) => Class::Success,
            Err(error) => match error.class() {
                // It had no chance: its caller had less time than a try is granted.
                Class::Failure
                    if self.attempt_timeout.is_some()
                        && bound == deadline
                        && bound.remaining().is_none() =>
                {
                    Class::Ignored
                }
                class => class,
            },
        };
        if let Some(permit) = permit {
            permit.record(class);
        }
        answer.map_err(Error::Call)
    }
}

#[cfg(test)]
mod tests;
