//! Inputs for the model and the machine: any valid configuration, any steps.

use proptest::prelude::*;

use super::super::{
    super::{config, verdict::Verdict},
    *,
};

/// A step in a breaker's life.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Acquire,
    /// The end of one of the calls that are out, at this index among them (modulo their number).
    End(usize, Verdict),
    /// The passing of so many milliseconds.
    Wait(u64),
    Expire,
    ForceOpen,
    ForceClosed,
    Reset,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        4 => any::<bool>().prop_map(|slow| Verdict::Success { slow }),
        4 => any::<bool>().prop_map(|slow| Verdict::Failure { slow }),
        1 => Just(Verdict::Ignored),
        1 => Just(Verdict::Cancelled),
    ]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => Just(Step::Acquire),
        30 => (any::<usize>(), verdict()).prop_map(|(which, verdict)| Step::End(which, verdict)),
        15 => (0..400_u64).prop_map(Step::Wait),
        2 => Just(Step::Expire),
        1 => Just(Step::ForceOpen),
        1 => Just(Step::ForceClosed),
        1 => Just(Step::Reset),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let window = prop_oneof![
        (1..8_u32).prop_map(config::Window::Count),
        (1..20_u64).prop_map(|n| config::Window::Time(Duration::from_millis(n * 50))),
    ];
    let rate = prop_oneof![Just(0.25), Just(0.5), Just(1.0)];
    let slow = proptest::option::of(rate.clone()).prop_map(|rate| {
        let duration = SECOND;
        rate.map(|rate| SlowCalls { rate, duration })
    });
    let with_window = (window, 1..8_u32, rate, slow).prop_map(
        |(window, minimum, failure_rate, slow_call_rate)| {
            let minimum_calls = match window {
                config::Window::Count(calls) => minimum.min(calls),
                config::Window::Time(_) => minimum,
            };
            Policy::Rate {
                window,
                minimum_calls,
                failure_rate,
                slow_call_rate,
            }
        },
    );
    prop_oneof![
        (1..5_u32).prop_map(|failures| Policy::Consecutive { failures }),
        with_window,
    ]
}

pub(super) fn config() -> impl Strategy<Value = Config> {
    let half_open =
        (1..5_u32, 1..5_u32, 1..600_u64).prop_map(|(permitted, wanted, wait)| HalfOpen {
            permitted_calls: permitted,
            successes_to_close: wanted.min(permitted),
            maximum_wait: Duration::from_millis(wait),
        });
    let growth = proptest::option::of(Just(Growth {
        multiplier: 2.0,
        maximum: Duration::from_millis(1000),
    }));
    (policy(), 1..400_u64, growth, half_open).prop_map(|(policy, open_for, growth, half_open)| {
        Config {
            policy,
            open_for: Duration::from_millis(open_for),
            growth,
            jitter: 0.5,
            half_open,
        }
    })
}
