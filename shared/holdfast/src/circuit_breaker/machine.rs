//! The breaker's states and every transition between them. No lock, no clock, no metrics: the time is passed in.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    config::{Config, Policy},
    event::{Reason, State},
    trial::Trial,
    verdict::Verdict,
    window::{Tally, Window},
};

/// The wait that is suggested to a rejected caller while probes are out: they may end any moment, and another attempt
/// costs only time in this process.
const SOON: Duration = Duration::from_millis(100);

/// A change of state, to be logged, counted and published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) from: State,
    pub(super) to: State,
    pub(super) reason: Reason,
    pub(super) at: Instant,
}

/// A rejection. `retry_after` is `None` if only an operator can end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) state: State,
    pub(super) retry_after: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Machine {
    config: Config,
    /// The source of jitter, from 0 to 1. A function, so that tests can fix it.
    random: fn() -> f64,
    mode: Mode,
    /// The number of changes of `mode` so far. A call keeps the generation in which it was admitted, and its verdict
    /// counts only in that one: the reply to a request from before the outage says nothing about now.
    generation: u64,
    since: Instant,
    /// The number of failures that counted since the last success that did. Zero whenever a closed phase begins.
    failures_in_a_row: u32,
    /// The number of failed trials in a row.
    relapses: u32,
    /// The changes that `take_changes` has not taken yet.
    changes: Vec<Change>,
}

#[derive(Debug)]
enum Mode {
    /// The results so far. `None`: the policy counts failures in a row, which needs no window.
    Closed(Option<Window>),
    Open {
        until: Instant,
    },
    HalfOpen(Trial),
    ForcedOpen,
    ForcedClosed,
}

impl Machine {
    /// Returns a closed breaker. `config` has been checked.
    pub(super) fn new(config: Config, random: fn() -> f64, now: Instant) -> Self {
        Self {
            config,
            random,
            mode: Mode::Closed(window(&config, now)),
            generation: 0,
            since: now,
            failures_in_a_row: 0,
            relapses: 0,
            changes: Vec::new(),
        }
    }

    /// Admits a call or rejects it. An admitted call belongs to the generation that is current when this function
    /// returns.
    pub(super) fn acquire(&mut self, now: Instant) -> Result<(), Refused> {
        self.expire(now);
        match self.mode {
            Mode::Closed(_) | Mode::ForcedClosed => Ok(()),
            Mode::Open { until } if now < until => Err(self.refuse(Some(until - now))),
            // Open -> HalfOpen: the wait is over, and this call is the first probe.
            Mode::Open { .. } => {
                let mut trial = Trial::default();
                trial.admit(now);
                self.enter(Mode::HalfOpen(trial), Reason::WaitOver, now);
                Ok(())
            }
            Mode::HalfOpen(trial) if trial.is_full(self.config.half_open) => {
                Err(self.refuse(Some(SOON)))
            }
            Mode::HalfOpen(ref mut trial) => {
                trial.admit(now);
                Ok(())
            }
            Mode::ForcedOpen => Err(self.refuse(None)),
        }
    }

    /// Returns the rejection of a call that may not be a probe; `None` if it would not be one.
    pub(super) fn refusal_of_probe(&self, now: Instant) -> Option<Refused> {
        match self.mode {
            Mode::Closed(_) | Mode::ForcedClosed => None,
            Mode::Open { until } if now < until => Some(self.refuse(Some(until - now))),
            Mode::Open { .. } | Mode::HalfOpen(_) => Some(self.refuse(Some(SOON))),
            Mode::ForcedOpen => Some(self.refuse(None)),
        }
    }

    /// Records the end of a call of `generation`. `now` is a function because reading the clock costs more than all the
    /// rest, and most verdicts need no clock.
    pub(super) fn record(&mut self, generation: u64, verdict: Verdict, now: impl Fn() -> Instant) {
        if matches!(self.mode, Mode::HalfOpen(_)) {
            self.expire(now());
        }
        if generation != self.generation {
            return;
        }
        match verdict {
            Verdict::Success { .. } => self.failures_in_a_row = 0,
            Verdict::Failure { .. } => {
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
            }
            Verdict::Ignored | Verdict::Cancelled => {}
        }
        match (&mut self.mode, verdict) {
            (Mode::Closed(_), Verdict::Ignored | Verdict::Cancelled) => {}
            (Mode::Closed(window), Verdict::Success { slow }) => {
                let tally = window
                    .as_mut()
                    .map(|window| window.record(false, slow, &now));
                self.judge(tally, now);
            }
            (Mode::Closed(window), Verdict::Failure { slow }) => {
                let tally = window
                    .as_mut()
                    .map(|window| window.record(true, slow, &now));
                self.judge(tally, now);
            }
            (Mode::HalfOpen(trial), _) => {
                trial.record(verdict, now());
                match trial.succeeded(self.config.half_open) {
                    None => {}
                    Some(true) => {
                        // HalfOpen -> Closed
                        let closed = Mode::Closed(window(&self.config, now()));
                        self.enter(closed, Reason::TrialSucceeded, now());
                    }
                    Some(false) => {
                        // HalfOpen -> Open
                        self.open_again(Reason::TrialFailed, now());
                    }
                }
            }
            // Calls have no influence on a forced state.
            (Mode::ForcedOpen | Mode::ForcedClosed, _) => {}
            // No call was admitted in this generation.
            (Mode::Open { .. }, _) => {}
        }
    }

    /// Applies a transition that the passing of time has caused, as of the time when it was due. So it makes no
    /// difference how late, or how often, this is called.
    pub(super) fn expire(&mut self, now: Instant) {
        let Mode::HalfOpen(trial) = self.mode else {
            return;
        };
        if let Some(due) = trial.due(self.config.half_open)
            && due <= now
        {
            // HalfOpen -> Open: the probes hang, or were dropped.
            self.open_again(Reason::TrialUnanswered, due);
        }
    }

    /// Rejects every call until another command.
    pub(super) fn force_open(&mut self, now: Instant) {
        self.expire(now);
        // Closed, Open, HalfOpen, ForcedClosed -> ForcedOpen
        self.command(Mode::ForcedOpen, now);
    }

    /// Admits every call until another command.
    pub(super) fn force_closed(&mut self, now: Instant) {
        self.expire(now);
        // Closed, Open, HalfOpen, ForcedOpen -> ForcedClosed
        self.command(Mode::ForcedClosed, now);
    }

    /// Closes the breaker and forgets everything.
    pub(super) fn reset(&mut self, now: Instant) {
        self.expire(now);
        // Closed, Open, HalfOpen, ForcedOpen, ForcedClosed -> Closed
        self.command(Mode::Closed(window(&self.config, now)), now);
    }

    fn command(&mut self, mode: Mode, now: Instant) {
        (self.failures_in_a_row, self.relapses) = (0, 0);
        self.enter(mode, Reason::Operator, now);
    }

    /// Opens a closed breaker if its policy says so. `tally` is the sum of the window, for a policy that has one.
    fn judge(&mut self, tally: Option<Tally>, now: impl Fn() -> Instant) {
        let reason = match (self.config.policy, tally) {
            (Policy::Consecutive { failures }, _) => (self.failures_in_a_row >= failures)
                .then_some(Reason::ConsecutiveFailures(self.failures_in_a_row)),
            (
                Policy::Rate {
                    minimum_calls,
                    failure_rate,
                    slow_call_rate,
                    ..
                },
                Some(tally),
            ) if tally.calls >= minimum_calls.into() => {
                let (failed, slow) = (tally.failure_rate(), tally.slow_call_rate());
                if failed >= failure_rate {
                    Some(Reason::FailureRate(failed))
                } else if slow_call_rate.is_some_and(|limit| slow >= limit.rate) {
                    Some(Reason::SlowCallRate(slow))
                } else {
                    None
                }
            }
            (Policy::Rate { .. }, _) => None,
        };
        if let Some(reason) = reason {
            // Closed -> Open
            self.open(reason, now());
        }
    }

    fn open_again(&mut self, reason: Reason, at: Instant) {
        self.relapses = self.relapses.saturating_add(1);
        self.open(reason, at);
    }

    fn open(&mut self, reason: Reason, at: Instant) {
        let Config {
            open_for,
            growth,
            jitter,
            ..
        } = self.config;
        let grown = growth.map_or(open_for, |growth| {
            let times = growth
                .multiplier
                .powi(self.relapses.try_into().unwrap_or(i32::MAX));
            // In seconds, because a `Duration` would panic if this is infinite.
            let seconds = (open_for.as_secs_f64() * times).min(growth.maximum.as_secs_f64());
            Duration::from_secs_f64(seconds)
        });
        let wait = grown.mul_f64(1.0 + jitter * (self.random)());
        self.enter(Mode::Open { until: at + wait }, reason, at);
    }

    fn enter(&mut self, mode: Mode, reason: Reason, at: Instant) {
        let from = self.state();
        self.mode = mode;
        self.generation += 1;
        let to = self.state();
        if to == State::Closed {
            self.relapses = 0;
        }
        if from != to {
            self.since = at;
            self.changes.push(Change {
                from,
                to,
                reason,
                at,
            });
        }
    }

    fn refuse(&self, retry_after: Option<Duration>) -> Refused {
        Refused {
            state: self.state(),
            retry_after,
        }
    }

    pub(super) fn state(&self) -> State {
        match self.mode {
            Mode::Closed(_) => State::Closed,
            Mode::Open { .. } => State::Open,
            Mode::HalfOpen(_) => State::HalfOpen,
            Mode::ForcedOpen => State::ForcedOpen,
            Mode::ForcedClosed => State::ForcedClosed,
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns whether another success in this generation would change nothing, so that it need not be recorded.
    pub(super) fn is_at_rest(&self) -> bool {
        match self.mode {
            Mode::Closed(None) => self.failures_in_a_row == 0,
            Mode::ForcedClosed => true,
            Mode::Closed(Some(_)) | Mode::Open { .. } | Mode::HalfOpen(_) | Mode::ForcedOpen => {
                false
            }
        }
    }

    /// Takes the changes since the last call of this function, in order.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    pub(super) fn failures_in_a_row(&self) -> u32 {
        self.failures_in_a_row
    }

    /// Returns the time from which a call is a probe, if the breaker is open.
    pub(super) fn open_until(&self) -> Option<Instant> {
        match self.mode {
            Mode::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Returns the sum of the window, if there is one and the breaker is closed.
    pub(super) fn tally(&self, now: Instant) -> Option<Tally> {
        match &self.mode {
            Mode::Closed(window) => window.as_ref().map(|window| window.tally(now)),
            _ => None,
        }
    }
}

fn window(config: &Config, now: Instant) -> Option<Window> {
    match config.policy {
        Policy::Consecutive { .. } => None,
        Policy::Rate { window, .. } => Some(Window::new(window, now)),
    }
}
