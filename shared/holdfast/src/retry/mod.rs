//! Retry: repeat a failed call only where that is safe, and within a budget.
//!
//! # Problem
//!
//! Inventory fails for a second. Each of its callers retries three times, and so does each of their callers: 27 calls
//! for one, just when the service can least bear them. The short failure is now an outage that the retries keep alive.
//! Elsewhere a client retries a payment that timed out, and the customer pays twice.
//!
//! # Guarantee
//!
//! [`Retry::run`] retries only errors that are safe to retry ([`Retryable`]), at most as often, and for as long, as
//! configured. It waits with full jitter ([`backoff`](crate::backoff)), or as long as the server said (`Retry-After`),
//! and never beyond the caller's [`Deadline`]. Within a [`Budget`], retries are over time at most a fixed share of
//! calls, however many calls fail.
//!
//! # Not guaranteed
//!
//! That repeating is harmless: the callee sees to that, by an idempotency key. You declare it in [`Retryable`].
//!
//! # States
//!
//! None for one call. A [`Budget`], shared by all calls to one dependency, is a bucket: a call puts a part of a token
//! in, a retry takes a whole one out.
//!
//! # Failure modes
//!
//! With an empty budget each failure is returned at once. A `Retry-After` beyond the deadline also ends the call at
//! once, because no attempt could follow it.
//!
//! ```
//! use std::time::Duration;
//! use holdfast::{backoff::Backoff, deadline::Deadline, retry::{Advice, Retry, Retryable}};
//!
//! #[derive(Debug, PartialEq)]
//! enum Error { Busy, Wrong }
//! impl Retryable for Error {
//!     fn advice(&self) -> Advice {
//!         match self { Error::Busy => Advice::Backoff, Error::Wrong => Advice::Never }
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let retry = Retry::new(3, Backoff::RECONNECT);
//! let answer = retry
//!     .run(Deadline::after(Duration::from_secs(2)), async |n| if n < 3 { Err(Error::Busy) } else { Ok(7) })
//!     .await;
//! assert_eq!(answer.unwrap(), 7);
//! # }
//! ```
//!
//! # Copying this
//!
//! This folder, `backoff`, `deadline`, and the crates `thiserror`, `tokio`. Alternatives: `backon` (no budget),
//! `tower::retry` (budget, but for tower services).
//!
//! Sources: Finagle's `RetryBudget`; linkerd, "Retries and timeouts"; Google, "Site Reliability Engineering", chapter
//! 22.

mod budget;

use std::{future::Future, sync::Arc, time::Duration};

pub use budget::{Budget, InvalidBudget};

use crate::{
    backoff::{Backoff, pause},
    deadline::Deadline,
};

/// An error's advice on retrying its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A retry would fail as well, or the call must not happen twice.
    Never,
    /// A retry is safe and may succeed soon.
    Backoff,
    /// A retry is safe, and the server said when (`Retry-After`).
    After(Duration),
}

/// An error that knows whether its call may be repeated.
///
/// An implementation must return [`Advice::Never`] for every error after which the call may have taken effect, unless
/// the call is idempotent.
pub trait Retryable {
    /// Returns whether, and when, to retry.
    fn advice(&self) -> Advice;
}

/// The rule of retries: how often, for how long, and how many for all calls.
#[derive(Clone, Debug)]
pub struct Retry {
    attempts: u32,
    elapsed: Duration,
    backoff: Backoff,
    budget: Option<Arc<Budget>>,
}

/// The call did not succeed. `last` is the error of the last attempt.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {attempts} {}, {why}: {last}", if *.attempts == 1 { "attempt" } else { "attempts" })]
pub struct GaveUp<E> {
    /// The number of attempts, at least one.
    pub attempts: u32,
    /// The reason for which there was no further attempt.
    pub why: Why,
    /// The error of the last attempt.
    #[source]
    pub last: E,
}

/// A reason for which there was no further attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The error may not be retried.
    NotRetryable,
    /// There were as many attempts as allowed.
    Attempts,
    /// The next attempt would start after the deadline, or after the time that this rule allows.
    Deadline,
    /// The budget is empty: too many calls to this dependency fail already.
    Budget,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "the error is not retryable",
            Self::Attempts => "no more are allowed",
            Self::Deadline => "no time is left for another",
            Self::Budget => "the retry budget is empty",
        })
    }
}

impl Retry {
    /// A single attempt, without a retry.
    pub const NEVER: Self = Self {
        attempts: 1,
        elapsed: Duration::MAX,
        backoff: Backoff::RECONNECT,
        budget: None,
    };

    /// Returns a rule of at most `attempts` attempts (at least one, counting the first) with this backoff between them;
    /// no limit of time but the caller's deadline, and no budget.
    pub fn new(attempts: u32, backoff: Backoff) -> Self {
        Self {
            attempts: attempts.max(1),
            elapsed: Duration::MAX,
            backoff,
            budget: None,
        }
    }

    /// Limits the time: no attempt starts later than `elapsed` after the first.
    pub fn within(self, elapsed: Duration) -> Self {
        Self { elapsed, ..self }
    }

    /// Shares `budget` with every other call to the same dependency.
    pub fn with_budget(self, budget: Arc<Budget>) -> Self {
        Self {
            budget: Some(budget),
            ..self
        }
    }

    /// Returns the budget, if there is one.
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_deref()
    }

    /// Calls `op`, with the number of the attempt from 1, until it succeeds or there is no reason for another attempt.
    ///
    /// Each attempt must bound itself, by the same deadline: this decides only whether the next one starts. Cancel safe
    /// if `op` is.
    pub async fn run<T, E: Retryable, F: Future<Output = Result<T, E>>>(
        &self,
        deadline: Deadline,
        mut op: impl FnMut(u32) -> F,
    ) -> Result<T, GaveUp<E>> {
        let policy = if self.elapsed == Duration::MAX {
            deadline
        } else {
            deadline.within(self.elapsed)
        };
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
        let mut attempts = 1;
        loop {
            let last = match op(attempts).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match self.delay(attempts, last.advice(), policy) {
                Ok(delay) => pause(delay).await,
                Err(why) => {
                    return Err(GaveUp {
                        attempts,
                        why,
                        last,
                    });
                }
            }
            attempts += 1;
        }
    }

    /// Returns the wait before the next attempt, or the reason for which there is none.
    fn delay(&self, attempts: u32, advice: Advice, deadline: Deadline) -> Result<Duration, Why> {
        let delay = match advice {
            Advice::Never => return Err(Why::NotRetryable),
            Advice::Backoff => self.backoff.delay(attempts - 1),
            Advice::After(delay) => delay,
        };
        if attempts >= self.attempts {
            return Err(Why::Attempts);
        }
        if deadline.remaining().is_none_or(|left| left <= delay) {
            return Err(Why::Deadline);
        }
        // Last, so that an attempt that is not made costs no token.
        if self
            .budget
            .as_ref()
            .is_some_and(|budget| !budget.withdraw())
        {
            return Err(Why::Budget);
        }
        Ok(delay)
    }
}

#[cfg(test)]
mod tests;
