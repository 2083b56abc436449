//! The settings: each an environment variable, each documented by `--help`.

use std::{path::PathBuf, time::Duration};

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings};
use clap::{Args, Parser};

/// Takes orders over HTTP, keeps their state, and begins and ends their choreography, or leaves them to the
/// orchestrator
#[derive(Clone, Debug, Parser)]
#[command(name = "order")]
pub struct Config {
    /// The settings of every service.
    #[command(flatten)]
    pub chassis: Settings,
    /// The connections to RabbitMQ.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// The settings of logs and spans.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// The settings of the calls for prices.
    #[command(flatten)]
    pub prices: PriceSettings,
    /// The times for which orders wait.
    #[command(flatten)]
    pub waiting: WaitingSettings,
}

/// The settings of the calls for prices.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prices")]
pub struct PriceSettings {
    /// The inventory service, as http://HOST:PORT
    #[arg(long, env = "INVENTORY_URL")]
    pub inventory_url: String,

    /// The file with our service token; read again for each call
    #[arg(long, env = "SERVICE_TOKEN_FILE")]
    pub service_token_file: PathBuf,

    /// The longest time for asking inventory for prices, retries included, in milliseconds
    #[arg(long, env = "PRICE_TIMEOUT_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub price_timeout_ms: u64,

    /// The most concurrent calls for prices; twice as many may wait for a permit
    #[arg(long, env = "PRICE_MAX_CONCURRENT", default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub price_max_concurrent: usize,

    /// The time for which the circuit breaker before inventory stays open before it probes, in milliseconds
    #[arg(long, env = "PRICE_BREAKER_OPEN_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub price_breaker_open_ms: u64,

    /// The greatest age of the prices that are used while inventory is unavailable, in seconds; 0: none are used, and
    /// orders are refused
    #[arg(long, env = "PRICE_MAX_AGE_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub price_max_age_seconds: u64,
}

/// The times for which orders wait.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Waiting")]
pub struct WaitingSettings {
    /// The time for which a choreographed order may stay pending, in seconds, counted from when the broker is known to
    /// have it; then it is cancelled
    #[arg(long, env = "ORDER_DEADLINE_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub order_deadline_seconds: u64,

    /// The wait for an answer before asking again, in milliseconds; from the third time on twice as long each time
    #[arg(long, env = "SWEEP_AFTER_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub sweep_after_ms: u64,

    /// The number of times to ask again; after them the order is stuck, and waits for an operator
    #[arg(long, env = "SWEEPS", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub sweeps: u32,

    /// The pause between two looks for deadlines and missing answers, in milliseconds
    #[arg(long, env = "WORKER_POLL_MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub worker_poll_ms: u64,

    /// The time for which responses under an Idempotency-Key are kept, in hours
    #[arg(long, env = "IDEMPOTENCY_RETENTION_HOURS", default_value_t = 168, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub idempotency_retention_hours: u64,
}

/// The longest wait between two sweeps.
pub(crate) const LONGEST_SWEEP: Duration = Duration::from_secs(600);

impl WaitingSettings {
    /// Returns the time for which an order may stay pending.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.order_deadline_seconds)
    }

    /// Returns the wait for an answer before asking again for the first time.
    pub fn sweep_after(&self) -> Duration {
        Duration::from_millis(self.sweep_after_ms)
    }

    /// Returns the wait after the next sweep of an order that was swept `sweeps` times; `None`: it is stuck instead.
    pub fn sweep_again(&self, sweeps: u32) -> Option<Duration> {
        (sweeps < self.sweeps).then(|| {
            self.sweep_after()
                .saturating_mul(2_u32.saturating_pow(sweeps))
                .min(LONGEST_SWEEP)
        })
    }
}
