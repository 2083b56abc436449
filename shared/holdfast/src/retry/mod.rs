//! # Retry: whether to try again at all
//!
//! **Problem.** Inventory hiccups for a second. Every one of its callers retries three times, and so does every caller of
//! theirs: 27 calls for one, just when the service could least bear them. The hiccup is now an outage that the retries
//! keep alive. Elsewhere a client retries a payment that timed out, and the customer pays twice.
//!
//! **Guarantee.** [`Retry::run`] tries again only what its error calls safe ([`Retryable`]), at most as often, and for as
//! long, as configured; waits with full jitter ([`backoff`](crate::backoff)) or as long as the server said (`Retry-After`);
//! never goes past the caller's [`Deadline`]; and stays within a [`Budget`]: over time, retries are at most a fixed share
//! of calls, however many calls fail.
//!
//! **Not guaranteed.** That repeating is harmless: that is for the callee, by an idempotency key. The trait
//! [`Retryable`] is where you say it.
//!
//! **States.** None for one call. A [`Budget`], shared by all calls to one dependency, is a bucket: a call puts a part of a
//! token in, a retry takes a whole one out.
//!
//! **Failure modes.** An empty budget turns every failure into the first answer, at once. A `Retry-After` that does not
//! fit before the deadline ends the call at once, as there is no point in waiting for it.
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
//! **Copying this.** This folder, `backoff`, `deadline`, and the crates `thiserror`, `tokio`. What people take
//! otherwise: `backon` (no budget), `tower::retry` (budget, but for tower services).
//!
//! Sources: Finagle's `RetryBudget`; linkerd, "Retries and timeouts"; Google, "Site Reliability Engineering", chapter 22.

mod budget;

use std::{future::Future, sync::Arc, time::Duration};

pub use budget::{Budget, InvalidBudget};

use crate::{
    backoff::{Backoff, pause},
    deadline::Deadline,
};

/// What an error says about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It would fail again, or must not happen twice.
    Never,
    /// It is safe to repeat and may work soon.
    Backoff,
    /// It is safe to repeat, and the server said when (`Retry-After`).
    After(Duration),
}

/// An error that knows whether its call may be repeated.
///
/// An implementation must answer [`Advice::Never`] for every error after which the call may have taken effect, unless
/// the call is idempotent.
pub trait Retryable {
    /// Whether, and when, to try again.
    fn advice(&self) -> Advice;
}

/// How often, and how long, to try.
#[derive(Clone, Debug)]
pub struct Retry {
    attempts: u32,
    elapsed: Duration,
    backoff: Backoff,
    budget: Option<Arc<Budget>>,
}

/// There was no success. `last` says why the last try failed.
#[derive(Debug, thiserror::Error)]
#[error("gave up after {attempts} {}, {why}: {last}", if *.attempts == 1 { "attempt" } else { "attempts" })]
pub struct GaveUp<E> {
    /// How many tries there were: one at the least.
    pub attempts: u32,
    /// Why there was not one more.
    pub why: Why,
    /// The error of the last try.
    #[source]
    pub last: E,
}

/// Why there was not one more try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The error cannot, or must not, be repeated.
    NotRetryable,
    /// There were as many tries as allowed.
    Attempts,
    /// The next try would start after the deadline, or after the time that this policy allows.
    Deadline,
    /// Too many calls to this dependency fail already.
    Budget,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotRetryable => "not worth another",
            Self::Attempts => "no more allowed",
            Self::Deadline => "no time for another",
            Self::Budget => "the retry budget is empty",
        })
    }
}

impl Retry {
    /// One try, and never another.
    pub const NEVER: Self = Self {
        attempts: 1,
        elapsed: Duration::MAX,
        backoff: Backoff::RECONNECT,
        budget: None,
    };

    /// At most `attempts` tries in all (at least one), with this backoff between them; no limit of time but the
    /// caller's deadline, and no budget.
    pub fn new(attempts: u32, backoff: Backoff) -> Self {
        Self {
            attempts: attempts.max(1),
            elapsed: Duration::MAX,
            backoff,
            budget: None,
        }
    }

    /// No try starts later than `elapsed` after the first.
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

    /// Its budget, if it has one.
    pub fn budget(&self) -> Option<&Budget> {
        self.budget.as_deref()
    }

    /// Calls `op`, with the number of the attempt from 1, until it succeeds or there is no point in one more try.
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

    /// How long to wait before the next try, or why there is none.
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
        // Last, so that a try that does not happen takes nothing.
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
