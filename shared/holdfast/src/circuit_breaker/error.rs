//! Why a call has no result.

use std::{fmt, sync::Arc, time::Duration};

use super::event::State;

/// The breaker did not let the call through; the dependency knows nothing of it. Come back after `retry_after`, or do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The breaker's name.
    pub name: Arc<str>,
    /// [`State::Open`], [`State::HalfOpen`] (as many calls as permitted are out already), or [`State::ForcedOpen`].
    pub state: State,
    /// The earliest time at which it is of use to ask again. `None`: when the operator who forced it open says so.
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
            // Rounded up, so that nobody is told to come in 0.0 s.
            Some(after) => {
                let tenths = after.as_millis().div_ceil(100);
                write!(f, "; try again in {}.{} s", tenths / 10, tenths % 10)
            }
            None => Ok(()),
        }
    }
}

impl std::error::Error for Rejected {}

/// Why [`CircuitBreaker::call`](super::CircuitBreaker::call) has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error<E> {
    /// Not called. Fall back, or try again after [`Rejected::retry_after`].
    #[error(transparent)]
    Open(#[from] Rejected),
    /// Called, and it failed: what to do about it is the error's own matter.
    #[error(transparent)]
    Call(E),
}
