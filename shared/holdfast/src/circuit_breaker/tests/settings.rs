//! Invalid settings are refused, with the name of the field.

use super::*;

fn rate(window: Window, minimum_calls: u32, failure_rate: f64) -> Config {
    let slow_call_rate = None;
    let policy = Policy::Rate {
        window,
        minimum_calls,
        failure_rate,
        slow_call_rate,
    };
    Config { policy, ..steady() }
}

fn slow(rate: f64, duration: Duration) -> Config {
    let policy = Policy::Rate {
        window: Window::Time(SECOND),
        minimum_calls: 1,
        failure_rate: 1.0,
        slow_call_rate: Some(SlowCalls { rate, duration }),
    };
    Config { policy, ..steady() }
}

fn half_open(permitted_calls: u32, successes_to_close: u32, maximum_wait: Duration) -> Config {
    let half_open = HalfOpen {
        permitted_calls,
        successes_to_close,
        maximum_wait,
    };
    Config {
        half_open,
        ..steady()
    }
}

fn open_for(open_for: Duration) -> Config {
    Config {
        open_for,
        ..steady()
    }
}

fn growth(multiplier: f64, maximum: Duration) -> Config {
    let growth = Some(Growth {
        multiplier,
        maximum,
    });
    Config { growth, ..steady() }
}

fn consecutive(failures: u32) -> Config {
    let policy = Policy::Consecutive { failures };
    Config { policy, ..steady() }
}

fn jitter(jitter: f64) -> Config {
    Config { jitter, ..steady() }
}

#[test]
fn invalid_settings_are_refused() {
    let (ten, tiny) = (Window::Count(10), SECOND / 1000);
    for (field, config) in [
        ("policy.failures", consecutive(0)),
        ("policy.window", rate(Window::Count(0), 1, 0.5)),
        ("policy.window", rate(Window::Time(tiny), 1, 0.5)),
        ("policy.minimum_calls", rate(ten, 0, 0.5)),
        ("policy.minimum_calls", rate(ten, 11, 0.5)),
        ("policy.failure_rate", rate(ten, 10, 0.0)),
        ("policy.failure_rate", rate(ten, 10, f64::NAN)),
        ("policy.slow_call_rate.rate", slow(1.1, SECOND)),
        ("policy.slow_call_rate.duration", slow(1.0, Duration::ZERO)),
        ("open_for", open_for(Duration::ZERO)),
        ("open_for", open_for(Duration::MAX)),
        ("growth.multiplier", growth(0.5, SECOND)),
        ("growth.multiplier", growth(f64::INFINITY, SECOND)),
        ("growth.maximum", growth(2.0, SECOND / 2)),
        ("jitter", jitter(-0.1)),
        ("jitter", jitter(f64::NAN)),
        ("half_open.permitted_calls", half_open(0, 0, SECOND)),
        ("half_open.successes_to_close", half_open(1, 0, SECOND)),
        ("half_open.successes_to_close", half_open(1, 2, SECOND)),
        ("half_open.maximum_wait", half_open(1, 1, Duration::ZERO)),
    ] {
        let refused = CircuitBreaker::new("x", config).expect_err(field);
        assert_eq!(refused.field, field, "{refused}");
    }
    let refused = CircuitBreaker::new("x", half_open(2, 3, SECOND)).expect_err("3 of 2");
    assert_eq!(
        refused.to_string(),
        "half_open.successes_to_close of a circuit breaker must be from 1 to permitted_calls, not 3"
    );
}

#[test]
fn the_bounds_themselves_are_fine() {
    let day = SECOND * 24 * 60 * 60;
    for config in [
        Config::default(),
        consecutive(1),
        rate(Window::Count(1), 1, 1.0),
        rate(Window::Time(SECOND / 100), u32::MAX, f64::MIN_POSITIVE),
        open_for(day),
        growth(1.0, SECOND),
        jitter(1.0),
        half_open(u32::MAX, u32::MAX, day),
    ] {
        assert!(CircuitBreaker::new("x", config).is_ok(), "{config:?}");
    }
}

/// The growth must not overflow, however many trials failed.
#[tokio::test(start_paused = true)]
async fn growth_has_no_end_but_its_maximum() {
    let breaker = breaker(growth(1e300, SECOND * 2));
    fail(&breaker, 3);
    for _ in 0..100 {
        advance(SECOND * 2).await;
        fail(&breaker, 1);
        assert_eq!(breaker.snapshot().retry_after, Some(SECOND * 2));
    }
}
