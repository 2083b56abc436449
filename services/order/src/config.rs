//! The settings: each an environment variable, each documented by `--help`.

use std::{path::PathBuf, time::Duration};

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings};
use clap::{Args, Parser};

/// Takes orders over HTTP, keeps their state, and begins and ends their choreography, or leaves them to the orchestrator
#[derive(Clone, Debug, Parser)]
#[command(name = "order")]
pub struct Config {
    /// What every service has.
    #[command(flatten)]
    pub chassis: Settings,
    /// RabbitMQ.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// Logs.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// Prices.
    #[command(flatten)]
    pub prices: PriceSettings,
    /// How long to wait for whom.
    #[command(flatten)]
    pub waiting: WaitingSettings,
}

/// Where prices come from.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Prices")]
pub struct PriceSettings {
    /// The inventory service, as http://HOST:PORT
    #[arg(long, env = "INVENTORY_URL")]
    pub inventory_url: String,

    /// The file with our service token; read again for each call
    #[arg(long, env = "SERVICE_TOKEN_FILE")]
    pub service_token_file: PathBuf,

    /// Longest that asking for prices may take, its retries included, in milliseconds
    #[arg(long, env = "PRICE_TIMEOUT_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub price_timeout_ms: u64,

    /// Most questions for prices that are under way at a time, in number; twice as many may wait for a place
    #[arg(long, env = "PRICE_MAX_CONCURRENT", default_value_t = 32, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    pub price_max_concurrent: usize,

    /// How long the circuit breaker before inventory stays open before it tries again, in milliseconds
    #[arg(long, env = "PRICE_BREAKER_OPEN_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub price_breaker_open_ms: u64,

    /// The oldest prices that will do while inventory cannot be asked, in seconds; 0: none, the order is refused
    #[arg(long, env = "PRICE_MAX_AGE_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub price_max_age_seconds: u64,
}

/// How long an order waits, and for what.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Waiting")]
pub struct WaitingSettings {
    /// How long a choreographed order may stay pending, in seconds, counted from when the broker is known to have it; then it is cancelled
    #[arg(long, env = "ORDER_DEADLINE_SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    pub order_deadline_seconds: u64,

    /// How long to wait for an answer before asking again, in milliseconds; from the third time on twice as long each time
    #[arg(long, env = "SWEEP_AFTER_MS", default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(10..=86_400_000))]
    pub sweep_after_ms: u64,

    /// How often to ask again, in number; after that the order is stuck, and an operator's
    #[arg(long, env = "SWEEPS", default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=30))]
    pub sweeps: u32,

    /// How often to look for deadlines and unanswered questions, in milliseconds
    #[arg(long, env = "WORKER_POLL_MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub worker_poll_ms: u64,

    /// How long answers under an Idempotency-Key are kept, in hours
    #[arg(long, env = "IDEMPOTENCY_RETENTION_HOURS", default_value_t = 168, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub idempotency_retention_hours: u64,
}

/// The longest wait between two sweeps.
pub(crate) const LONGEST_SWEEP: Duration = Duration::from_secs(600);

impl WaitingSettings {
    /// How long an order may stay pending.
    pub fn deadline(&self) -> Duration {
        Duration::from_secs(self.order_deadline_seconds)
    }

    /// How long to wait for an answer before asking again for the first time.
    pub fn sweep_after(&self) -> Duration {
        Duration::from_millis(self.sweep_after_ms)
    }

    /// How long to wait after having asked again `sweeps` times; `None`: not any more.
    pub fn sweep_again(&self, sweeps: u32) -> Option<Duration> {
        (sweeps < self.sweeps).then(|| {
            self.sweep_after()
                .saturating_mul(2_u32.saturating_pow(sweeps))
                .min(LONGEST_SWEEP)
        })
    }
}
