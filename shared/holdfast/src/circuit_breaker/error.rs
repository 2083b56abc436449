//! The reasons for which a call has no result.

use std::{fmt, sync::Arc, time::Duration};

use super::event::State;

/// The breaker rejected the call, so the dependency saw nothing of it. Try again after `retry_after`, or do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The breaker's name.
    pub name: Arc<str>,
    /// [`State::Open`], [`State::HalfOpen`] (as many probes as permitted are out already), or [`State::ForcedOpen`].
    pub state: State,
    /// The time after which a call may be admitted. `None`: once the operator who forced it open resets it.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            state,
            retry_after,
        } = self;
        write!(f, "the circuit breaker of {name} is {state}")?;
        match retry_after {
            // Rounded up, so that it never says 0.0 s.
            Some(after) => {
                let tenths = after.as_millis().div_ceil(100);
                write!(f, "; try again in {}.{} s", tenths / 10, tenths % 10)
            }
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

/// An error of [`CircuitBreaker::call`](super::CircuitBreaker::call).
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// The call was rejected, not made. Fall back, or try again after [`Rejected::retry_after`].
    #[error(transparent)]
    Open(#[from] Rejected),
    /// The call was made and failed. The error itself says what to do.
    #[error(transparent)]
    Call(E),
}
