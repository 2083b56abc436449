//! The state of a breaker, its changes, and its counts.

use std::{fmt, sync::Arc, time::Duration};

use tokio::time::Instant;

/// A state of a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Every call is admitted.
    Closed,
    /// Calls are rejected until the wait is over. The next call after that is a probe.
    Open,
    /// As many probes as permitted are admitted, to see whether the dependency is back.
    HalfOpen,
    /// Every call is rejected by an operator's command (Polly: isolated).
    ForcedOpen,
    /// Every call is admitted by an operator's command, whatever their results (resilience4j: disabled).
    ForcedClosed,
}

impl State {
    /// All states, in the order of their numbers.
    pub(super) const ALL: [Self; 5] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::ForcedClosed,
    ];

    /// Returns the value of a metric's label: `closed`, `open`, `half_open`, `forced_open`, `forced_closed`.
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

/// A change of a breaker's state.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The breaker's name.
    pub name: Arc<str>,
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// The cause of the change.
    pub reason: Reason,
    /// The time of the change, on this process's clock.
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

/// The cause of a change of state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// Closed to open: this many failures in a row.
    ConsecutiveFailures(u32),
    /// Closed to open: the share of failures in the window, 0 to 1.
    FailureRate(f64),
    /// Closed to open: the share of slow calls in the window, 0 to 1.
    SlowCallRate(f64),
    /// Open to half-open: the wait is over, and there was a call.
    WaitOver,
    /// Half-open to closed: enough probes succeeded.
    TrialSucceeded,
    /// Half-open to open: too many probes failed or were slow.
    TrialFailed,
    /// Half-open to open: no probe ended within the maximum wait.
    TrialUnanswered,
    /// Any state: an operator's command.
    Operator,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConsecutiveFailures(1) => f.write_str("1 failure"),
            Self::ConsecutiveFailures(n) => write!(f, "{n} failures in a row"),
            Self::FailureRate(rate) => write!(f, "{:.0} % of calls failed", rate * 100.0),
            Self::SlowCallRate(rate) => write!(f, "{:.0} % of calls were slow", rate * 100.0),
            Self::WaitOver => f.write_str("the wait is over"),
            Self::TrialSucceeded => f.write_str("the trial succeeded"),
            Self::TrialFailed => f.write_str("the trial failed"),
            Self::TrialUnanswered => f.write_str("no probe ended in time"),
            Self::Operator => f.write_str("by an operator's command"),
        }
    }
}

/// The state, counts and rates of a breaker at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    /// The state at that moment.
    pub state: State,
    /// The time since the breaker entered that state.
    pub state_for: Duration,
    /// Calls since the breaker was made.
    pub calls: Calls,
    /// Calls in the window now, while closed, under a policy that has a window.
    pub window_calls: Option<u64>,
    /// The share of those that failed, 0 to 1. It may be above the limit while there are fewer calls than the minimum.
    pub failure_rate: Option<f64>,
    /// The share of those that were slow, 0 to 1, if the policy looks at it.
    pub slow_call_rate: Option<f64>,
    /// The time until a probe is admitted, while open. Zero: the next call is one.
    pub retry_after: Option<Duration>,
    /// Failures since the last success.
    pub consecutive_failures: u32,
}

/// Calls by their outcome. Each counts once, including those that ended too late to matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls that succeeded in time.
    pub succeeded: u64,
    /// Calls that ended in an error or a panic.
    pub failed: u64,
    /// Calls that succeeded, but slower than the policy allows.
    pub slow: u64,
    /// Calls that ended in an error that says nothing about the dependency.
    pub ignored: u64,
    /// Calls that were dropped before they ended.
    pub cancelled: u64,
    /// Calls that were rejected.
    pub rejected: u64,
}
