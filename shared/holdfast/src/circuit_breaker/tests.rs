use tokio::time::advance;

use super::*;

mod calls;
mod interleavings;
mod model;
mod recorder;
mod settings;
mod states;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Failed(Class);

impl Classify for Failed {
    fn class(&self) -> Class {
        self.0
    }
}

/// Settings that open after three failures in a row, for exactly one second each time.
fn steady() -> Config {
    Config {
        policy: Policy::Consecutive { failures: 3 },
        open_for: SECOND,
        growth: None,
        jitter: 0.0,
        ..Config::default()
    }
}

fn breaker(config: Config) -> CircuitBreaker {
    CircuitBreaker::new("card-processor", config).expect("valid")
}

fn fail(breaker: &CircuitBreaker, times: u32) {
    for _ in 0..times {
        breaker.try_acquire().expect("admitted").failure();
    }
}
