//! Pipeline: deadline, retry, circuit breaker and bulkhead in the right order. Needs nothing but this process.
//!
//! ```console
//! $ cargo run -p holdfast --example pipeline
//! ```
//!
//! A price service works, fails for a moment, dies and comes back. Its client has all four patterns around each call,
//! and falls back to the last price that it got.

#![expect(clippy::print_stdout, reason = "an example talks")]
#![expect(clippy::disallowed_methods, reason = "the work is simulated")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use holdfast::{
    backoff::Backoff,
    bulkhead::{Bulkhead, Limits},
    circuit_breaker::{CircuitBreaker, Class, Classify, Config, Policy},
    deadline::{Deadline, Exceeded},
    pipeline::{Error, Pipeline},
    retry::{Advice, Budget, Retry, Retryable},
};
use tokio::time::{Instant, sleep};

/// The reason for which there is no price.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it is busy")]
    Busy,
    #[error("it did not answer in time")]
    Late,
}

impl From<Exceeded> for Failed {
    fn from(_: Exceeded) -> Self {
        Self::Late
    }
}

/// The call may be retried: asking for a price changes nothing.
impl Retryable for Failed {
    fn advice(&self) -> Advice {
        Advice::Backoff
    }
}

/// Each failure counts against the service's health.
impl Classify for Failed {
    fn class(&self) -> Class {
        Class::Failure
    }
}

/// The price service: the number of its next calls that fail, and the number of calls so far.
#[derive(Default)]
struct Service {
    failing: AtomicU32,
    calls: AtomicU32,
}

impl Service {
    async fn price(&self) -> Result<u32, Failed> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        sleep(Duration::from_millis(2)).await;
        let fails = |left: u32| left.checked_sub(1);
        match self
            .failing
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fails)
        {
            Ok(_) => Err(Failed::Busy),
            Err(_) => Ok(690),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let service = Arc::new(Service::default());
    let backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(20))?;
    let breaker = Config {
        policy: Policy::Consecutive { failures: 5 },
        open_for: Duration::from_millis(300),
        ..Config::default()
    };
    let limits = Limits {
        max_concurrent: 8,
        max_waiting: 16,
        max_wait: Duration::from_millis(50),
    };
    // One for each dependency, made once and shared. The order in which the parts are named does not matter: they
    // always work in the same order.
    let prices = Pipeline::new("prices")
        .retry(Retry::new(3, backoff).with_budget(Budget::new(0.2, 10)?.into()))
        .breaker(CircuitBreaker::new("prices", breaker)?)
        .bulkhead(Bulkhead::new("prices", limits)?)
        .attempt_timeout(Duration::from_millis(100));

    println!("1. It works.");
    ask(&prices, &service).await;

    println!("\n2. Two calls fail: the retries hide it.");
    service.failing.store(2, Ordering::Relaxed);
    ask(&prices, &service).await;

    println!(
        "\n3. It dies. The breaker opens after five failures; from then on no call is made, and no caller waits."
    );
    service.failing.store(u32::MAX, Ordering::Relaxed);
    for _ in 0..4 {
        ask(&prices, &service).await;
    }

    println!("\n4. It is back. The breaker permits one probe; it succeeds, so the breaker closes.");
    service.failing.store(0, Ordering::Relaxed);
    sleep(Duration::from_millis(400)).await;
    ask(&prices, &service).await;
    Ok(())
}

async fn ask(prices: &Pipeline, service: &Arc<Service>) {
    let (begun, before) = (Instant::now(), service.calls.load(Ordering::Relaxed));
    let customer = Deadline::after(Duration::from_millis(500));
    let answer = prices.run(customer, |_| service.price()).await;
    let calls = service.calls.load(Ordering::Relaxed) - before;
    let took = begun.elapsed();
    match answer {
        Ok(price) => println!("   {price} after {calls} calls, {took:.0?}"),
        // Whichever part ended the call, the fallback is the caller's: here, the last price.
        Err(gave_up) => {
            let why = match &gave_up.last {
                Error::Open(rejected) => rejected.to_string(),
                Error::Full(full) => full.to_string(),
                Error::Call(error) => error.to_string(),
            };
            println!("   690, a price from before, after {calls} calls, {took:.0?}: {why}");
        }
    }
}
