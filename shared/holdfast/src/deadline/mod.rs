//! Deadline: one time budget for a call and all the calls below it.
//!
//! # Problem
//!
//! A customer's request may take 2 s. The order service asks inventory for prices with a timeout of 5 s "to be safe";
//! inventory is slow. The customer has long left, and both services go on working on the request: each timeout was
//! reasonable where it stood, and together they overload both.
//!
//! # Guarantee
//!
//! A [`Deadline`] is set once, at the entry, and only ever shrinks: [`Deadline::within`] takes the sooner of two.
//! [`Deadline::run`] ends a call when it passes. The time that remains travels with the request in [`HEADER`], as a
//! duration and not as a point in time, because clocks differ between machines.
//!
//! # Not guaranteed
//!
//! That the work behind a call stops: dropping a request does not undo it. After [`Exceeded`] the outcome is unknown,
//! never "it failed". The time that a request spends on the wire is not deducted.
//!
//! # States
//!
//! None: a point in time.
//!
//! # Failure modes
//!
//! A header that is not a number, or claims more than the server's own limit, counts as that limit: a caller can only
//! shorten it.
//!
//! ```
//! use std::time::Duration;
//! use holdfast::deadline::Deadline;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! // The server grants 2 s at the most, the caller has 300 ms left.
//! let deadline = Deadline::from_header(Some("300"), Duration::from_secs(2));
//! // One call below it may take 1 s at the most: the sooner one wins.
//! let answer = deadline.within(Duration::from_secs(1)).run(std::future::pending::<()>()).await;
//! assert!(answer.is_err());
//! assert_eq!(deadline.remaining(), None);
//! # }
//! ```
//!
//! # Copying this
//!
//! This file, and the crates `thiserror` and `tokio` (`time`). gRPC has this built in (`grpc-timeout`); tower's
//! `Timeout` bounds one call but does not travel.
//!
//! Source: Google, "Site Reliability Engineering", chapter 22, "Latency and Deadlines"; the gRPC over HTTP/2 protocol.

use std::{future::Future, time::Duration};

use tokio::time::Instant;

/// The header that carries the remaining time, in whole milliseconds.
pub const HEADER: &str = "x-deadline-remaining-ms";

/// The longest budget, thirty years. A point in time far beyond it does not fit the clock.
const LONGEST: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The time by which a result is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// The deadline passed before the work ended, and the work may still take effect: repeat it under an idempotency key,
/// or look up its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed before there was an answer")]
pub struct Exceeded;

impl Deadline {
    /// Returns the deadline `budget` from now. A budget of more than thirty years, such as [`Duration::MAX`], counts as
    /// thirty years.
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget.min(LONGEST))
    }

    /// Returns the deadline that a caller's [`HEADER`] grants, but at most `limit` from now.
    pub fn from_header(value: Option<&str>, limit: Duration) -> Self {
        let granted = value
            .and_then(|text| text.trim().parse().ok())
            .map_or(limit, Duration::from_millis);
        Self::after(granted.min(limit))
    }

    /// Returns this deadline or `budget` from now, whichever is sooner: the bound of a call below.
    pub fn within(self, budget: Duration) -> Self {
        self.min(Self::after(budget))
    }

    /// Returns the time that is left, or `None` if the deadline has passed.
    pub fn remaining(self) -> Option<Duration> {
        let left = self.0.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// Returns the value for [`HEADER`]: whole milliseconds, rounded down, so that a budget never grows on its way.
    pub fn header_value(self) -> Result<String, Exceeded> {
        Ok(self.remaining().ok_or(Exceeded)?.as_millis().to_string())
    }

    /// Runs `work` until it has ended or the deadline passes.
    ///
    /// Cancel safe if `work` is: at the deadline `work` is dropped.
    pub async fn run<F: Future>(self, work: F) -> Result<F::Output, Exceeded> {
        tokio::time::timeout_at(self.0, work)
            .await
            .map_err(|_| Exceeded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_only_shrinks() {
        let limit = Duration::from_secs(2);
        for (header, granted) in [
            (None, 2000),
            (Some("300"), 300),
            (Some(" 300 "), 300),
            (Some("999999"), 2000),
            (Some("-1"), 2000),
            (Some("soon"), 2000),
            (Some("18446744073709551616"), 2000),
        ] {
            let deadline = Deadline::from_header(header, limit);
            assert_eq!(
                deadline.remaining(),
                Some(Duration::from_millis(granted)),
                "{header:?}"
            );
            assert_eq!(deadline.within(Duration::from_secs(60)), deadline);
            assert!(deadline.within(Duration::from_millis(1)) < deadline);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn budget_beyond_the_clock_is_shortened() {
        let far = Deadline::after(Duration::MAX);
        assert_eq!(far.remaining(), Some(LONGEST));
        assert_eq!(far.within(Duration::MAX), far);
        assert_eq!(Deadline::from_header(None, Duration::MAX), far);
        let most = u64::MAX.to_string();
        assert_eq!(Deadline::from_header(Some(&most), Duration::MAX), far);

        let second = Duration::from_secs(1);
        assert_eq!(far.within(second), Deadline::after(second));
        assert_eq!(far.run(std::future::ready(7)).await, Ok(7));
    }

    #[tokio::test(start_paused = true)]
    async fn remaining_time_is_rounded_down_in_the_header() {
        let deadline = Deadline::after(Duration::from_micros(1_999_900));
        assert_eq!(deadline.header_value().as_deref(), Ok("1999"));
        assert_eq!(
            Deadline::after(Duration::ZERO).header_value(),
            Err(Exceeded)
        );
        assert_eq!(deadline.run(std::future::ready(7)).await, Ok(7));
    }
}
