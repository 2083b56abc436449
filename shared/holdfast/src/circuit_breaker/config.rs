//! The settings of a breaker: when it opens, for how long, and what closes it.

use std::time::Duration;

/// The longest value of every duration: sums must fit the clock, and no breaker has a use for a longer one.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of one breaker. Start from [`Config::default`] and change what differs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    /// The rule by which it opens. Default: after five failures in a row.
    pub policy: Policy,
    /// The time for which it stays open before a probe: more than zero, at most a day. Default: 5 s.
    pub open_for: Duration,
    /// The growth of that time with each failed trial. Default: doubles, up to 30 s. `None`: always `open_for`.
    pub growth: Option<Growth>,
    /// The share of that time that is added at random, so that replicas do not probe in step: 0 to 1. Default: 0.2, so
    /// 5 s becomes 5 s to 6 s.
    pub jitter: f64,
    /// The probes that it permits before it closes.
    pub half_open: HalfOpen,
}

/// A rule by which a closed breaker opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    /// A run of failures. The cheapest policy: a success costs no lock and no clock. It is blind to a dependency that
    /// fails every second call.
    Consecutive {
        /// The number of failures, at least 1.
        failures: u32,
    },
    /// Too large a share of failed or slow calls among the latest. Each call takes a short lock.
    Rate {
        /// The calls that count as the latest.
        window: Window,
        /// The number of calls in the window below which the breaker does not open: one failure of one call is not
        /// "100 %". At least 1, and at most the size of a counted window.
        minimum_calls: u32,
        /// The share of failures that opens the breaker: more than 0, at most 1.
        failure_rate: f64,
        /// The limit on slow calls. `None`: the clock is not read for it.
        slow_call_rate: Option<SlowCalls>,
    },
}

/// The calls that count as the latest ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// The last results, this many of them: 1 to 100 000, a byte each. Old failures stay until enough calls have pushed
    /// them out, however long that takes.
    Count(u32),
    /// The results of the last period of this length: 10 ms to a day. The window has ten parts, and a whole part leaves
    /// at once, so it covers from nine tenths of the time to all of it. Each result reads the clock.
    Time(Duration),
}

/// The definition of a slow call, and the share of them that opens the breaker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SlowCalls {
    /// The share of slow calls that opens the breaker: more than 0, at most 1. Failures that took long
    /// count as slow.
    pub rate: f64,
    /// The duration above which a call is slow: more than zero, at most a day.
    pub duration: Duration,
}

/// The growth of the time that a breaker stays open while trials fail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The factor from one time to the next, at least 1.
    pub multiplier: f64,
    /// The longest time, before jitter: at least `open_for`, at most a day.
    pub maximum: Duration,
}

/// The probes of a half-open breaker, which show whether the dependency is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HalfOpen {
    /// The number of probes that are permitted, at least 1. Default: 1.
    pub permitted_calls: u32,
    /// The number of probes that must succeed for the breaker to close: 1 to `permitted_calls`. It opens again as soon
    /// as that is out of reach; so with both numbers equal, on the first failure. Default: 1.
    pub successes_to_close: u32,
    /// The time to wait for the next probe to succeed or fail. Then the breaker opens again, because the probes hang or
    /// their callers give up too soon. More than zero, at most a day; best longer than a call may take. Default: 10 s.
    pub maximum_wait: Duration,
}

/// A setting is out of its range. Fix the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} of a circuit breaker must be {limits}, not {given}")]
pub struct InvalidConfig {
    /// The setting's path, as it is written in the code.
    pub field: &'static str,
    /// The values that are valid.
    pub limits: &'static str,
    /// The rejected value.
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
    /// Returns an error that names the first invalid setting, if there is one.
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

    /// Returns the duration from which on a call is slow, if the policy looks at it.
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
