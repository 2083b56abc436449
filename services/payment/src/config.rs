//! The settings. Each is an environment variable, and documented by `--help`.

use std::{path::PathBuf, time::Duration};

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings, with_password};
use clap::{Args, Parser};
use holdfast::{leased_work::Pace, outbox::Waker};

/// Wallet accounts, charges and refunds; calls the card processor
#[derive(Clone, Debug, Parser)]
#[command(name = "payment")]
pub struct Config {
    /// The settings that every service has.
    #[command(flatten)]
    pub chassis: Settings,
    /// The connection to RabbitMQ, and its consumers.
    #[command(flatten)]
    pub broker: BrokerSettings,
    /// The settings of logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// The card processor, and the calls of it.
    #[command(flatten)]
    pub card: CardSettings,
    /// The locks of the accounts.
    #[command(flatten)]
    pub locks: LockSettings,
}

/// The Redis that keeps the locks of the accounts.
#[derive(Args, Clone)]
#[command(next_help_heading = "Locks")]
pub struct LockSettings {
    /// The Redis that keeps the locks of accounts, as redis://USER:PASSWORD@HOST:PORT
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: String,

    /// A file with the password, instead of the one in REDIS_URL
    #[arg(long, env = "REDIS_PASSWORD_FILE")]
    pub redis_password_file: Option<PathBuf>,

    /// First part of an account lock's name, before the customer's id; different for each shop that shares a Redis
    #[arg(long, env = "ACCOUNT_LOCK_NAME", default_value = "account", value_parser = lock_name)]
    pub account_lock_name: String,

    /// Time for which an account stays locked when the lock's holder dies, in milliseconds
    #[arg(long, env = "ACCOUNT_LOCK_TTL_MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(300..=600_000))]
    pub account_lock_ttl_ms: u64,
}

/// Parses the first part of a lock's name. It has the characters of a customer's id, and leaves room for one.
fn lock_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=100).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 100 characters of A-Z, a-z, 0-9, '.', '_' and '-'".to_owned())
    }
}

impl LockSettings {
    /// Returns the URL, with the password from the file if one is set. Fails if the file cannot be read.
    pub(crate) fn redis(&self) -> anyhow::Result<String> {
        with_password(&self.redis_url, self.redis_password_file.as_deref())
    }
}

impl std::fmt::Debug for LockSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockSettings").finish_non_exhaustive() // the URL may have a password in it
    }
}

/// The card processor, and the calls of it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Card processor")]
pub struct CardSettings {
    /// The card processor, as http://HOST:PORT
    #[arg(long, env = "CARD_PROCESSOR_URL")]
    pub card_processor_url: String,

    /// The file with our service token; read again for each call
    #[arg(long, env = "SERVICE_TOKEN_FILE")]
    pub service_token_file: PathBuf,

    /// Timeout of one call, in milliseconds; after it the outcome is unknown, and the call is resent
    #[arg(long, env = "CARD_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub card_timeout_ms: u64,

    /// Most calls in progress at a time, in number
    #[arg(long, env = "CARD_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub card_concurrency: u16,

    /// Time for which the circuit breaker before the card processor stays open before it permits a probe, in
    /// milliseconds; doubled each time that a probe fails, up to ten seconds
    #[arg(long, env = "CARD_BREAKER_OPEN_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub card_breaker_open_ms: u64,

    /// Longest wait before a call is resent, in milliseconds; the wait begins at a tenth of a second and doubles
    #[arg(long, env = "CARD_BACKOFF_CAP_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub card_backoff_cap_ms: u64,

    /// Time after which a worker that is not woken looks for due payments, in milliseconds
    #[arg(long, env = "CARD_POLL_MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub card_poll_ms: u64,
}

impl CardSettings {
    /// Returns the pace of the worker that `waker` wakes.
    pub(crate) fn pace(&self, waker: Waker) -> Pace {
        let poll = Duration::from_millis(self.card_poll_ms);
        Pace {
            concurrency: self.card_concurrency.into(),
            poll,
            waker: waker.into(),
        }
    }
}
