//! Circuit breaker: stop calling a dependency that does not answer. Needs nothing but this process; takes about 3 s.
//!
//! ```console
//! $ cargo run -p holdfast --example circuit_breaker
//! ```
//!
//! The card processor below is a TCP server. For a second it accepts connections and does not answer, which is what
//! most outages look like. An order comes every 20 ms all the while, and each wants its card charged.

#![expect(clippy::print_stdout, reason = "an example talks")]

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use holdfast::circuit_breaker::{
    CircuitBreaker, Class, Classify, Config, Error, Growth, HalfOpen, Policy, Rejected,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, interval, timeout},
};

/// The longest time that a customer's order may wait for the card processor.
const PATIENCE: Duration = Duration::from_millis(100);

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let breaker = CircuitBreaker::new(
        "card-processor",
        Config {
            policy: Policy::Consecutive { failures: 3 },
            // Short, so that the example is short.
            open_for: Duration::from_millis(200),
            growth: Some(Growth {
                multiplier: 2.0,
                maximum: Duration::from_millis(400),
            }),
            half_open: HalfOpen {
                permitted_calls: 2,
                successes_to_close: 2,
                ..HalfOpen::default()
            },
            ..Config::default()
        },
    )?;
    let processor = Processor::start().await?;
    let begun = Instant::now();
    let mut events = breaker.events();
    tokio::spawn(async move {
        while let Ok(event) = events.recv().await {
            println!("   {:>5} ms  {event}", begun.elapsed().as_millis());
        }
    });

    println!("The processor works:");
    tell(orders(25, &breaker, processor.address).await);
    println!("It hangs:");
    processor.hang(true);
    tell(orders(50, &breaker, processor.address).await);
    println!("It is back:");
    processor.hang(false);
    tell(orders(50, &breaker, processor.address).await);

    println!("The operator takes it out of use, for an hour's maintenance, and back:");
    breaker.force_open();
    tell(orders(5, &breaker, processor.address).await);
    breaker.reset();
    tell(orders(5, &breaker, processor.address).await);
    println!("{:#?}", breaker.snapshot().calls);
    Ok(())
}

/// The outcomes of some orders.
#[derive(Default)]
struct Outcome {
    charged: u32,
    /// The customer waited for a call that failed.
    timed_out: u32,
    /// The customer got an answer at once, that it takes longer today, and the order waits. The processor got no call.
    put_off: u32,
    last: Option<Rejected>,
}

/// Places one order each 20 ms.
async fn orders(count: u32, breaker: &CircuitBreaker, processor: SocketAddr) -> Outcome {
    let mut ticks = interval(Duration::from_millis(20));
    let mut calls = JoinSet::new();
    for _ in 0..count {
        ticks.tick().await;
        let breaker = breaker.clone();
        calls.spawn(async move { breaker.call(|| charge(processor)).await });
    }
    let mut outcome = Outcome::default();
    for result in calls.join_all().await {
        match result {
            Ok(()) => outcome.charged += 1,
            Err(Error::Call(_)) => outcome.timed_out += 1,
            // The fallback goes here.
            Err(Error::Open(rejected)) => {
                outcome.put_off += 1;
                outcome.last = Some(rejected);
            }
        }
    }
    outcome
}

/// Makes one call, with a time limit inside: one around the breaker would cut the call off before the breaker sees it
/// fail.
async fn charge(processor: SocketAddr) -> Result<(), ChargeError> {
    let call = async {
        let mut connection = TcpStream::connect(processor).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(())
    };
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(ChargeError::Unreachable),
        Err(_) => Err(ChargeError::TimedOut),
    }
}

/// The reason for which a card was not charged, as far as is known.
#[derive(Debug)]
enum ChargeError {
    TimedOut,
    Unreachable(io::Error),
}

impl Classify for ChargeError {
    // A declined card would be a `Success`: the processor is alive and has answered.
    fn class(&self) -> Class {
        match self {
            Self::TimedOut | Self::Unreachable(_) => Class::Failure,
        }
    }
}

impl fmt::Display for ChargeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no answer in time"),
            Self::Unreachable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ChargeError {}

/// The card processor's server.
struct Processor {
    address: SocketAddr,
    hangs: Arc<AtomicBool>,
}

impl Processor {
    async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let hangs = Arc::new(AtomicBool::new(false));
        let is_hanging = Arc::clone(&hangs);
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Ok((mut connection, _)) = listener.accept().await {
                if is_hanging.load(Ordering::Relaxed) {
                    unanswered.push(connection);
                } else {
                    // A caller that has left is not the server's problem.
                    let _ = connection.write_all(b"captured").await;
                }
            }
        });
        Ok(Self { address, hangs })
    }

    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }
}

fn tell(outcome: Outcome) {
    let Outcome {
        charged,
        timed_out,
        put_off,
        last,
    } = outcome;
    println!(
        "   {charged} charged, {timed_out} waited {PATIENCE:?} in vain, {put_off} put off at once"
    );
    if let Some(rejected) = last {
        println!("   the last of these was told: {rejected}");
    }
}
