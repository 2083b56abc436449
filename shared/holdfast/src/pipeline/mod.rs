//! Pipeline: deadline, retry, circuit breaker and bulkhead, in the right order.
//!
//! # Problem
//!
//! Each of the four is easy. In the wrong order they work against each other. A retry inside the circuit breaker makes
//! one failure of three. A bulkhead around the breaker lets calls queue for a dependency that is known to be dead. A
//! breaker around a full bulkhead takes this process' own load for the dependency's failure, and opens. A retry around
//! a timeout of its own goes on long after the customer has left.
//!
//! # Guarantee
//!
//! One order, with the rules that belong to it:
//!
//! 1. the caller's [`Deadline`], around everything: no wait and no attempt goes beyond it;
//! 2. [`Retry`]: calls that are safe to repeat, within a [budget](crate::retry::Budget);
//! 3. [`CircuitBreaker`]: each attempt counts by itself; while it is open, no call queues;
//! 4. [`Bulkhead`]: a place, or a bounded wait for one;
//! 5. the attempt, with a time limit of its own ([`Pipeline::attempt_timeout`]).
//!
//! Only the result of the attempt itself counts at the breaker ([`Classify`]). A full bulkhead, a caller that was
//! cancelled, and a caller that had less time than an attempt is granted do not count. A caller that has less than a
//! quarter of that time makes no probe: it is rejected until the breaker is closed. Rejections by an open breaker or a
//! full bulkhead are returned at once, and never retried: that is their purpose.
//!
//! # Not guaranteed
//!
//! That an attempt which ran out of time had no effect: see [`deadline`](crate::deadline). Its error decides, by
//! [`Retryable`], whether that may be repeated.
//!
//! # States
//!
//! Those of its parts. Share one pipeline between all calls to one dependency.
//!
//! # Failure modes
//!
//! By [`GaveUp`] the caller knows which part ended the call. What follows is the caller's fallback: an answer from a
//! cache, a place in a queue, an honest 503.
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
//! # Copying this
//!
//! This folder, `backoff`, `bulkhead`, `circuit_breaker`, `deadline`, `retry` and their crates. Alternatives:
//! `tower::ServiceBuilder`, whose layers can be put in any order, the wrong ones too (decision 0019 says why this is
//! not one), or `failsafe` (breaker alone).
//!
//! Sources: Polly's "Resilience pipelines" and resilience4j's "Getting started" (the order of their aspects); Google,
//! "Site Reliability Engineering", chapters 21 and 22; Brooker, "Timeouts, retries, and backoff with jitter" (Amazon
//! Builders' Library).

use std::{future::Future, sync::Arc, time::Duration};

use metrics::{Counter, counter};

use crate::{
    bulkhead::{self, Bulkhead},
    circuit_breaker::{self, CircuitBreaker, Class, Classify, Permit},
    deadline::{Deadline, Exceeded},
    retry::{Advice, Budget, GaveUp, Retry, Retryable},
};

/// The way to call one dependency. Every part but the caller's deadline may be left out. Clones share their parts.
#[derive(Clone, Debug)]
pub struct Pipeline {
    name: Arc<str>,
    retry: Retry,
    breaker: Option<CircuitBreaker>,
    bulkhead: Option<Bulkhead>,
    attempt_timeout: Option<Duration>,
    retries: Counter,
}

/// One attempt at a call.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// The number of the attempt, from 1.
    pub number: u32,
    /// The time by which it has to end. Pass it on, so that the dependency knows it, too.
    pub deadline: Deadline,
}

/// The reason for which an attempt had no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error<E> {
    /// The circuit breaker rejected the call, so it was not made. Respond without the dependency.
    #[error(transparent)]
    Open(#[from] circuit_breaker::Rejected),
    /// The bulkhead is full, so the call was not made. Respond without the dependency.
    #[error(transparent)]
    Full(#[from] bulkhead::Full),
    /// The call was made and failed. The error itself says whether it may have had an effect, and what to do.
    #[error("{0}")]
    Call(#[source] E),
}

impl<E: Retryable> Retryable for Error<E> {
    fn advice(&self) -> Advice {
        match self {
            // Repeating these would cause the load that both prevent.
            Self::Open(_) | Self::Full(_) => Advice::Never,
            Self::Call(error) => error.advice(),
        }
    }
}

impl Pipeline {
    /// Returns a pipeline to the dependency `name`, a label of its metrics, with no part but the caller's deadline.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        Self {
            retries: counter!("retries_total", "name" => Arc::clone(&name)),
            name,
            retry: Retry::NEVER,
            breaker: None,
            bulkhead: None,
            attempt_timeout: None,
        }
    }

    /// Sets the rule of retries. Without one there is a single attempt.
    pub fn retry(self, retry: Retry) -> Self {
        Self { retry, ..self }
    }

    /// Sets the breaker, which admits each attempt and records its result.
    pub fn breaker(self, breaker: CircuitBreaker) -> Self {
        Self {
            breaker: Some(breaker),
            ..self
        }
    }

    /// Sets the bulkhead, in which each attempt takes a place.
    pub fn bulkhead(self, bulkhead: Bulkhead) -> Self {
        Self {
            bulkhead: Some(bulkhead),
            ..self
        }
    }

    /// Sets the longest time of one attempt. An attempt that takes longer counts as the dependency's failure; one that
    /// ends earlier because of the caller's deadline does not count.
    pub fn attempt_timeout(self, longest: Duration) -> Self {
        Self {
            attempt_timeout: Some(longest),
            ..self
        }
    }

    /// Returns the dependency's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the budget of its retries, to show or switch it.
    pub fn get_budget(&self) -> Option<&Budget> {
        self.retry.budget()
    }

    /// Returns its breaker, to show or switch it.
    pub fn get_breaker(&self) -> Option<&CircuitBreaker> {
        self.breaker.as_ref()
    }

    /// Returns its bulkhead, to show or switch it.
    pub fn get_bulkhead(&self) -> Option<&Bulkhead> {
        self.bulkhead.as_ref()
    }

    /// Calls `op` until it succeeds, its error is not to be retried, or `deadline` passes.
    ///
    /// Cancel safe if `op` is: a call that is dropped leaves the bulkhead and does not count.
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

    /// Returns whether the caller has less than a quarter of the time that an attempt is granted. A healthy dependency
    /// may need longer than that, so its silence would prove nothing: such a call is no probe.
    fn is_in_a_hurry(&self, deadline: Deadline) -> bool {
        let left = deadline.remaining().unwrap_or_default();
        self.attempt_timeout
            .is_some_and(|longest| left < longest / 4)
    }

    /// Requests the breaker's permit for an attempt; `None` if there is no breaker.
    fn permit(&self, deadline: Deadline) -> Result<Option<Permit<'_>>, circuit_breaker::Rejected> {
        match &self.breaker {
            Some(breaker) if self.is_in_a_hurry(deadline) => {
                breaker.try_acquire_in_a_hurry().map(Some)
            }
            Some(breaker) => breaker.try_acquire().map(Some),
            None => Ok(None),
        }
    }

    /// Returns the meaning of an attempt's error for the health of the dependency. `bound` was the attempt's deadline.
    fn class_of(&self, error: &impl Classify, bound: Deadline, deadline: Deadline) -> Class {
        match error.class() {
            // The attempt ended by the caller's deadline, before its own time limit.
            Class::Failure
                if self.attempt_timeout.is_some()
                    && bound == deadline
                    && bound.remaining().is_none() =>
            {
                Class::Ignored
            }
            class => class,
        }
    }

    /// Makes one attempt: breaker, bulkhead, time limit.
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
        // Before the bulkhead, so that no call queues for a dependency that is known to be dead. A permit that is
        // dropped from here on counts as cancelled.
        let mut permit = self.permit(deadline)?;
        let _place = match &self.bulkhead {
            Some(bulkhead) => {
                let time = || deadline.remaining().unwrap_or_default();
                match bulkhead.acquire_within(time).await {
                    Ok(place) => Some(place),
                    Err(full) => {
                        // This process' own load is not the dependency's failure.
                        permit.into_iter().for_each(Permit::ignore);
                        return Err(full.into());
                    }
                }
            }
            None => None,
        };
        if let Some(permit) = &mut permit {
            // The wait for a place is not the dependency's fault.
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
        let answer = match bound.run(op(attempt)).await {
            Ok(answer) => answer,
            Err(late) => Err(late.into()),
        };
        let class = match &answer {
            Ok(_) => Class::Success,
            Err(error) => self.class_of(error, bound, deadline),
        };
        if let Some(permit) = permit {
            permit.record(class);
        }
        answer.map_err(Error::Call)
    }
}

#[cfg(test)]
mod tests;
