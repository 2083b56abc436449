//! The machine against a model that is as plain as possible: it keeps everything that ever happened and reads all of it
//! each time. It has no word, lock, generations, ring or running sums.

use proptest::prelude::*;
use tokio::time::Instant;

use super::{
    super::{
        config,
        machine::Machine,
        shared::{Shared, Ticket},
        verdict::Verdict,
    },
    *,
};

mod given;

use given::{Step, config, step};

/// A phase of the breaker's life, with all that happened in it. Times are in microseconds since the start.
#[derive(Debug)]
enum Phase {
    Closed {
        begun: u64,
        ended: Vec<(u64, Verdict)>,
    },
    Open {
        until: u64,
    },
    HalfOpen {
        probes: Vec<Probe>,
    },
    Forced(State),
}

/// A call that was admitted while half-open.
#[derive(Debug)]
struct Probe {
    admitted: u64,
    ended: Option<End>,
}

#[derive(Clone, Copy, Debug)]
struct End {
    at: u64,
    /// The order among ends at the same time.
    order: usize,
    verdict: Verdict,
}

#[derive(Debug)]
struct Model {
    config: Config,
    /// All phases; the last is the present one. Never shortened, so an index names a phase.
    phases: Vec<Phase>,
    ends: usize,
}

/// A call that is out: the index of its phase, and of its probe in that.
type Out = (usize, usize);

impl Model {
    fn phase(&mut self) -> &mut Phase {
        self.phases.last_mut().expect("there is always one")
    }

    fn state(&self) -> State {
        match self.phases.last().expect("there is always one") {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen { .. } => State::HalfOpen,
            Phase::Forced(state) => *state,
        }
    }

    fn close(&mut self, now: u64) {
        let ended = Vec::new();
        self.phases.push(Phase::Closed { begun: now, ended });
    }

    /// Opens. The wait doubles with each trial since the breaker was last closed or commanded.
    fn open(&mut self, now: u64) {
        let automatic =
            |phase: &&Phase| matches!(phase, Phase::Open { .. } | Phase::HalfOpen { .. });
        let trials = self.phases.iter().rev().take_while(automatic);
        let trials = trials
            .filter(|phase| matches!(phase, Phase::HalfOpen { .. }))
            .count();
        let base = micros(self.config.open_for);
        let wait = self.config.growth.map_or(base, |growth| {
            let most = micros(growth.maximum);
            (0..trials).fold(base, |wait, _| (wait * 2).min(most))
        });
        // The jitter is 0.5 and the random number 0.5: a quarter is added.
        let until = now + wait * 5 / 4;
        self.phases.push(Phase::Open { until });
    }

    /// Returns the time since which the trial waits for a probe to succeed or fail: the time of the last one that did,
    /// if another probe was out then, or else of the first admission after it. Cancelled and ignored probes count as
    /// out.
    fn waiting(probes: &[Probe]) -> Option<u64> {
        let is_word = |end: &End| !is_gone(end.verdict);
        let ends = probes.iter().filter_map(|probe| probe.ended);
        let last = ends.filter(is_word).max_by_key(|end| end.order);
        let is_silent = |probe: &&Probe| {
            probe
                .ended
                .is_none_or(|end| !is_word(&end) && last.is_none_or(|last| end.order > last.order))
        };
        let since = |probe: &Probe| probe.admitted.max(last.map_or(0, |last| last.at));
        probes.iter().filter(is_silent).map(since).min()
    }

    fn expire(&mut self, now: u64) {
        let Phase::HalfOpen { probes } = self.phases.last().expect("one") else {
            return;
        };
        let wait = micros(self.config.half_open.maximum_wait);
        if let Some(due) = Self::waiting(probes).map(|since| since + wait)
            && due <= now
        {
            self.open(due);
        }
    }

    fn acquire(&mut self, now: u64) -> Result<Out, Option<u64>> {
        self.expire(now);
        let permitted = self.config.half_open.permitted_calls as usize;
        if let Phase::Open { until } = *self.phase() {
            if now < until {
                return Err(Some(until - now));
            }
            self.phases.push(Phase::HalfOpen { probes: Vec::new() });
        }
        let number = self.phases.len() - 1;
        match self.phase() {
            Phase::Closed { .. } | Phase::Forced(State::ForcedClosed) => Ok((number, 0)),
            Phase::HalfOpen { probes } => {
                let has_place =
                    |probe: &&Probe| !probe.ended.is_some_and(|end| is_gone(end.verdict));
                if probes.iter().filter(has_place).count() == permitted {
                    return Err(Some(100_000));
                }
                probes.push(Probe {
                    admitted: now,
                    ended: None,
                });
                Ok((number, probes.len() - 1))
            }
            Phase::Forced(_) => Err(None),
            Phase::Open { .. } => unreachable!("half-open since above"),
        }
    }

    fn end(&mut self, (phase, probe): Out, verdict: Verdict, now: u64) {
        let is_late = |model: &Self| phase != model.phases.len() - 1;
        if is_late(self) {
            return;
        }
        self.expire(now);
        if is_late(self) {
            return;
        }
        self.ends += 1;
        let (config, order) = (self.config, self.ends);
        match self.phase() {
            Phase::Closed { begun, ended } => {
                if is_gone(verdict) {
                    return;
                }
                ended.push((now, verdict));
                if should_open(config.policy, *begun, ended, now) {
                    self.open(now);
                }
            }
            Phase::HalfOpen { probes } => {
                probes[probe].ended = Some(End {
                    at: now,
                    order,
                    verdict,
                });
                let good = Verdict::Success { slow: false };
                let ended = |of: fn(Verdict) -> bool| {
                    let verdicts = probes.iter().filter_map(|probe| probe.ended);
                    u32::try_from(verdicts.filter(|end| of(end.verdict)).count()).expect("few")
                };
                let succeeded = ended(|verdict| verdict == Verdict::Success { slow: false });
                let failed = ended(|verdict| {
                    matches!(
                        verdict,
                        Verdict::Failure { .. } | Verdict::Success { slow: true }
                    )
                });
                let wanted = config.half_open;
                if verdict == good && succeeded == wanted.successes_to_close {
                    self.close(now);
                } else if wanted.permitted_calls - failed < wanted.successes_to_close {
                    self.open(now);
                }
            }
            Phase::Forced(_) => {}
            Phase::Open { .. } => unreachable!("it lets nothing through"),
        }
    }
}

/// Returns whether the probe ended without a meaning, and so without a place.
fn is_gone(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Ignored | Verdict::Cancelled)
}

fn should_open(policy: Policy, begun: u64, ended: &[(u64, Verdict)], now: u64) -> bool {
    let failed = |verdict: &Verdict| matches!(verdict, Verdict::Failure { .. });
    let slow = |verdict: &Verdict| {
        matches!(
            verdict,
            Verdict::Failure { slow: true } | Verdict::Success { slow: true }
        )
    };
    match policy {
        Policy::Consecutive { failures } => {
            let last = ended
                .iter()
                .rev()
                .take_while(|(_, verdict)| failed(verdict));
            last.count() >= failures as usize
        }
        Policy::Rate {
            window,
            minimum_calls,
            failure_rate,
            slow_call_rate,
        } => {
            let recent: Vec<_> = match window {
                config::Window::Count(calls) => ended
                    .iter()
                    .rev()
                    .take(calls as usize)
                    .map(|(_, verdict)| *verdict)
                    .collect(),
                config::Window::Time(span) => {
                    // The window is the current tenth and the nine before it, counted from the beginning of the phase.
                    let part = |at: u64| (at - begun) / (micros(span) / 10);
                    let is_in_sight = |at: u64| part(at) + 10 > part(now);
                    ended
                        .iter()
                        .filter(|(at, _)| is_in_sight(*at))
                        .map(|(_, verdict)| *verdict)
                        .collect()
                }
            };
            let share = |of: &dyn Fn(&Verdict) -> bool| {
                #[expect(clippy::cast_precision_loss, reason = "few")]
                let share = recent.iter().filter(|verdict| of(verdict)).count() as f64
                    / recent.len() as f64;
                share
            };
            recent.len() >= minimum_calls as usize
                && (share(&failed) >= failure_rate
                    || slow_call_rate.is_some_and(|limit| share(&slow) >= limit.rate))
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).expect("short")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn machine_agrees_with_the_model(config in config(), steps in proptest::collection::vec(step(), 1..120)) {
        config.check().expect("only valid ones are made");
        let start = Instant::now();
        let mut model = Model { config, phases: Vec::new(), ends: 0 };
        model.close(0);
        let shared = Shared::new(Machine::new(config, || 0.5, start));
        let mut out: Vec<(Ticket, Out)> = Vec::new();
        let mut now = 0;
        for step in steps {
            let at = || start + Duration::from_micros(now);
            match step {
                Step::Acquire => match (shared.acquire(at, |_| ()), model.acquire(now)) {
                    (Ok(ticket), Ok(expected)) => out.push((ticket, expected)),
                    (Err(refused), Err(expected)) => {
                        prop_assert_eq!(refused.state, model.state());
                        prop_assert_eq!(refused.retry_after.map(micros), expected);
                    }
                    (did, expected) => prop_assert!(false, "{did:?}, but {expected:?}"),
                },
                Step::End(which, verdict) if !out.is_empty() => {
                    let (ticket, expected) = out.swap_remove(which % out.len());
                    shared.record(ticket, verdict, at, |_| ());
                    model.end(expected, verdict, now);
                }
                Step::End(..) => {}
                Step::Wait(ms) => now += ms * 1000,
                Step::Expire => {
                    shared.locked(|_| (), |machine| machine.expire(at()));
                    model.expire(now);
                }
                Step::ForceOpen => {
                    shared.locked(|_| (), |machine| machine.force_open(at()));
                    model.expire(now);
                    model.phases.push(Phase::Forced(State::ForcedOpen));
                }
                Step::ForceClosed => {
                    shared.locked(|_| (), |machine| machine.force_closed(at()));
                    model.expire(now);
                    model.phases.push(Phase::Forced(State::ForcedClosed));
                }
                Step::Reset => {
                    shared.locked(|_| (), |machine| machine.reset(at()));
                    model.expire(now);
                    model.close(now);
                }
            }
            prop_assert_eq!(shared.state(), model.state(), "after {:?} at {}", step, now);
        }
    }
}
