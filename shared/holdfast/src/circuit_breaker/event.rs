//! What can be said about a breaker: its state, why it changed, what it has counted.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

/// What a breaker does with calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Calls pass.
    Closed,
    /// Calls are rejected until the wait is over. Then the next call tries again.
    Open,
    /// As many calls pass as are permitted, to see whether the dependency is back.
    HalfOpen,
    /// An operator has every call rejected (Polly: isolated).
    ForcedOpen,
    /// An operator has every call pass, whatever comes of it (resilience4j: disabled).
    ForcedClosed,
}

impl State {
    /// All of them, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
    ];

    /// As a metric's label: `closed`, `open`, `half_open`, `forced_open`, `forced_closed`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
            Self::ForcedOpen => "forced open",
            Self::ForcedClosed => "forced closed",
        })
    }
}

/// A breaker changed its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Which breaker.
    pub name: Arc<str>,
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// What made it change.
    pub reason: Reason,
    /// When, on this process's clock.
    pub at: Instant,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            from,
            to,
            reason,
            ..
        } = self;
        write!(f, "{name}: {from} -> {to}, {reason}")
    }
}

/// What made a breaker change its state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Closed to open: so many failures in a row.
    ConsecutiveFailures(u32),
    /// Closed to open: the share of failures in the window, 0 to 1.
    FailureRate(f64),
    /// Closed to open: the share of slow calls in the window, 0 to 1.
    SlowCallRate(f64),
    /// Open to half-open: it was open for long enough, and there was a call.
    WaitOver,
    /// Half-open to closed: enough probes succeeded.
    TrialSucceeded,
    /// Half-open to open: too many probes failed, or were slow.
    TrialFailed,
    /// Half-open to open: no probe answered within the maximum wait.
    TrialUnanswered,
    /// It was told to.
    Operator,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(1) => f.write_str("1 failure"),
            Self::ConsecutiveFailures(n) => write!(f, "{n} failures in a row"),
            Self::FailureRate(rate) => write!(f, "{:.0} % of calls failed", rate * 100.0),
            Self::SlowCallRate(rate) => write!(f, "{:.0} % of calls were slow", rate * 100.0),
            Self::WaitOver => f.write_str("it is time to try again"),
            Self::TrialSucceeded => f.write_str("trying again succeeded"),
            Self::TrialFailed => f.write_str("trying again failed"),
            Self::TrialUnanswered => f.write_str("trying again had no answer"),
            Self::Operator => f.write_str("an operator said so"),
        }
    }
}

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// What it does with calls.
    pub state: State,
    /// For how long it has done so.
    pub state_for: Duration,
    /// Calls since the breaker was made.
    pub calls: Calls,
    /// Calls in the window now, while closed, under a policy that has a window.
    pub window_calls: Option<u64>,
    /// The share of those that failed, 0 to 1. It may be above the limit while there are fewer calls than the minimum.
    pub failure_rate: Option<f64>,
    /// The share of those that were slow, 0 to 1, if the policy looks at it.
    pub slow_call_rate: Option<f64>,
    /// While open: how long until a call may try again. Zero: the next one does.
    pub retry_after: Option<Duration>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
}

/// Calls by their outcome. Each counts once, also the late ones that no state listened to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// In time, and well.
    pub succeeded: u64,
    /// Badly, by an error or a panic.
    pub failed: u64,
    /// Well, but slower than the policy allows.
    pub slow: u64,
    /// With an error that says nothing about the dependency.
    pub ignored: u64,
    /// Not at all: the call was dropped before it ended.
    pub cancelled: u64,
    /// Never begun: the breaker did not let it through.
    pub rejected: u64,
}
