//! When a breaker opens, for how long, and what it wants to see before it closes.

use std::time::Duration;

/// No setting may be longer: what comes out must fit the clock, and a breaker that is open for a day is forgotten.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How one breaker behaves. Start from [`Config::default`] and change what differs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// When it opens. Default: after five failures in a row.
    pub policy: Policy,
    /// How long it stays open before a call may try again: more than zero, at most a day. Default: 5 s.
    pub open_for: Duration,
    /// How much longer it stays open each time that trying again fails. Default: twice as long, up to 30 s. `None`: always
    /// `open_for`.
    pub growth: Option<Growth>,
    /// The share of the time above that is added at random, so that replicas do not try again in step: 0 to 1. Default: 0.2,
    /// so 5 s becomes 5 s to 6 s.
    pub jitter: f64,
    /// What it wants to see before it closes.
    pub half_open: HalfOpen,
}

/// When a closed breaker opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// After this many failures in a row. The cheapest: a success costs no lock and no clock. It is blind to a dependency
    /// that fails every second call.
    Consecutive {
        /// At least 1.
        failures: u32,
    },
    /// When too large a share of the latest calls failed, or was slow. Each call takes a short lock.
    Rate {
        /// Which calls are the latest ones.
        window: Window,
        /// With fewer calls in the window than this nothing is decided: one failure of one call is not "100 %". At least 1,
        /// and at most the size of a counted window.
        minimum_calls: u32,
        /// It opens when the share of failures reaches this: more than 0, at most 1.
        failure_rate: f64,
        /// It opens for slow calls, too. `None`: nobody reads the clock for it.
        slow_call_rate: Option<SlowCalls>,
    },
}

/// Which calls count as the latest ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last so many results: 1 to 100 000, a byte each. Old failures stay until enough calls pushed them out, however long
    /// that takes.
    Count(u32),
    /// The results of the last so much time: 10 ms to a day. It is kept in ten parts, and a whole part leaves at once: what
    /// is in sight is from nine tenths of it to all of it. Each result costs a look at the clock.
    Time(Duration),
}

/// When calls are slow, and when too many are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowCalls {
    /// It opens when the share of slow calls reaches this: more than 0, at most 1. Failures that took long are slow, too.
    pub rate: f64,
    /// A call is slow when it took longer: more than zero, at most a day.
    pub duration: Duration,
}

/// How the time that a breaker stays open grows while the dependency does not come back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// Each time is this many times the one before: at least 1.
    pub multiplier: f64,
    /// It grows no further, jitter aside: at least `open_for`, at most a day.
    pub maximum: Duration,
}

/// What a breaker lets through to see whether the dependency is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// So many calls are let through, and not one more: at least 1. Default: 1.
    pub permitted_calls: u32,
    /// So many of them must succeed for it to close: 1 to `permitted_calls`. It opens again as soon as that is out of
    /// reach; so with both numbers equal, on the first failure. Default: 1.
    pub successes_to_close: u32,
    /// How long it waits for one more of those calls to succeed or fail. Then it opens again: they hang, or their callers
    /// have no patience. More than zero, at most a day; best longer than a call may take. Default: 10 s.
    pub maximum_wait: Duration,
}

/// A setting makes no sense. Fix the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} of a circuit breaker must be {limits}, not {given}")]
pub struct InvalidConfig {
    /// Which setting, as it is written in the code.
    pub field: &'static str,
    /// What it may be.
    pub limits: &'static str,
    /// What it was.
    pub given: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            policy: Policy::Consecutive { failures: 5 },
            open_for: Duration::from_secs(5),
            growth: Some(Growth {
                multiplier: 2.0,
                maximum: Duration::from_secs(30),
            }),
            jitter: 0.2,
            half_open: HalfOpen::default(),
        }
    }
}

impl Default for HalfOpen {
    fn default() -> Self {
        Self {
            permitted_calls: 1,
            successes_to_close: 1,
            maximum_wait: Duration::from_secs(10),
        }
    }
}

impl Config {
    /// Refuses nonsense, and names it.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.policy.check()?;
        check("open_for", self.open_for, is_span, SPAN)?;
        if let Some(growth) = self.growth {
            let multiplies = |by: f64| by.is_finite() && by >= 1.0;
            check(
                "growth.multiplier",
                growth.multiplier,
                multiplies,
                "at least 1",
            )?;
            let holds = |maximum| (self.open_for..=DAY).contains(&maximum);
            check(
                "growth.maximum",
                growth.maximum,
                holds,
                "from open_for to a day",
            )?;
        }
        let is_jitter = |share| (0.0..=1.0).contains(&share);
        check("jitter", self.jitter, is_jitter, "from 0 to 1")?;
        let HalfOpen {
            permitted_calls,
            successes_to_close,
            maximum_wait,
        } = self.half_open;
        check(
            "half_open.permitted_calls",
            permitted_calls,
            |n| n >= 1,
            "at least 1",
        )?;
        let is_reachable = |n| (1..=permitted_calls).contains(&n);
        check(
            "half_open.successes_to_close",
            successes_to_close,
            is_reachable,
            "from 1 to permitted_calls",
        )?;
        check("half_open.maximum_wait", maximum_wait, is_span, SPAN)
    }

    /// From how long on a call is slow, if that matters to anyone.
    pub(super) fn slow_from(&self) -> Option<Duration> {
        match self.policy {
            Policy::Rate { slow_call_rate, .. } => slow_call_rate.map(|slow| slow.duration),
            Policy::Consecutive { .. } => None,
        }
    }
}

impl Policy {
    fn check(&self) -> Result<(), InvalidConfig> {
        let (window, minimum_calls, failure_rate, slow_call_rate) = match *self {
            Self::Consecutive { failures } => {
                return check("policy.failures", failures, |n| n >= 1, "at least 1");
            }
            Self::Rate {
                window,
                minimum_calls,
                failure_rate,
                slow_call_rate,
            } => (window, minimum_calls, failure_rate, slow_call_rate),
        };
        let most = match window {
            Window::Count(calls) => {
                let is_size = |n| (1..=100_000).contains(&n);
                check("policy.window", calls, is_size, "from 1 to 100000 calls")?;
                calls
            }
            Window::Time(span) => {
                let is_window = |span| (Duration::from_millis(10)..=DAY).contains(&span);
                check("policy.window", span, is_window, "from 10ms to a day")?;
                u32::MAX
            }
        };
        let is_minimum = |n| (1..=most).contains(&n);
        check(
            "policy.minimum_calls",
            minimum_calls,
            is_minimum,
            "from 1 to the window's size",
        )?;
        check("policy.failure_rate", failure_rate, is_rate, RATE)?;
        if let Some(slow) = slow_call_rate {
            check("policy.slow_call_rate.rate", slow.rate, is_rate, RATE)?;
            check(
                "policy.slow_call_rate.duration",
                slow.duration,
                is_span,
                SPAN,
            )?;
        }
        Ok(())
    }
}

const SPAN: &str = "more than zero and at most a day";
const RATE: &str = "more than 0 and at most 1";

fn is_span(span: Duration) -> bool {
    !span.is_zero() && span <= DAY
}

fn is_rate(rate: f64) -> bool {
    rate > 0.0 && rate <= 1.0
}

fn check<T: Copy + std::fmt::Debug>(
    field: &'static str,
    given: T,
    is_valid: impl FnOnce(T) -> bool,
    limits: &'static str,
) -> Result<(), InvalidConfig> {
    if is_valid(given) {
        return Ok(());
    }
    Err(InvalidConfig {
        field,
        limits,
        given: format!("{given:?}"),
    })
}
