//! The settings: each an environment variable, each documented by `--help`.

use std::{path::PathBuf, time::Duration};

use chassis::{
    leased::Pace,
    settings::{BrokerSettings, Settings, TelemetrySettings, with_password},
};
use clap::{Args, Parser};
use holdfast::outbox::Waker;

/// Wallet accounts, charges and refunds; calls the card processor
#[derive(Clone, Debug, Parser)]
#[command(name = "payment")]
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
    /// The card company.
    #[command(flatten)]
    pub card: CardSettings,
    /// The locks of accounts.
    #[command(flatten)]
    pub locks: LockSettings,
}

/// Where the locks of accounts are.
#[derive(Args, Clone)]
#[command(next_help_heading = "Locks")]
pub struct LockSettings {
    /// The Redis that keeps the locks of accounts, as redis://USER:PASSWORD@HOST:PORT
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    pub redis_url: String,

    /// A file with the password, instead of the one in REDIS_URL
    #[arg(long, env = "REDIS_PASSWORD_FILE")]
    pub redis_password_file: Option<PathBuf>,

    /// What the locks of accounts are called, before the customer's id; another name for each shop that shares a Redis
    #[arg(long, env = "ACCOUNT_LOCK_NAME", default_value = "account", value_parser = lock_name)]
    pub account_lock_name: String,

    /// How long an account stays locked when the process that locked it dies, in milliseconds
    #[arg(long, env = "ACCOUNT_LOCK_TTL_MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(300..=600_000))]
    pub account_lock_ttl_ms: u64,
}

/// It leaves room for a customer's id in a lock's name, and has the same characters.
fn lock_name(text: &str) -> Result<String, String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if (1..=100).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("has 1 to 100 characters of A-Z, a-z, 0-9, '.', '_' and '-'".to_owned())
    }
}

impl LockSettings {
    /// The URL, with the password of the file if there is one.
    pub(crate) fn redis(&self) -> anyhow::Result<String> {
        with_password(&self.redis_url, self.redis_password_file.as_deref())
    }
}

impl std::fmt::Debug for LockSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LockSettings").finish_non_exhaustive() // the URL may have a password in it
    }
}

/// The card company, and how it is asked.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Card processor")]
pub struct CardSettings {
    /// The card processor, as http://HOST:PORT
    #[arg(long, env = "CARD_PROCESSOR_URL")]
    pub card_processor_url: String,

    /// The file with our service token; read again for each call
    #[arg(long, env = "SERVICE_TOKEN_FILE")]
    pub service_token_file: PathBuf,

    /// Longest to wait for one answer, in milliseconds; after that nobody knows, and it is asked again
    #[arg(long, env = "CARD_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub card_timeout_ms: u64,

    /// Calls in progress at a time, in number
    #[arg(long, env = "CARD_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub card_concurrency: u16,

    /// How long the circuit breaker before the card company stays open before it tries again, in milliseconds; twice as long each time that this fails, up to ten seconds
    #[arg(long, env = "CARD_BREAKER_OPEN_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub card_breaker_open_ms: u64,

    /// Longest to wait before asking again, in milliseconds; the wait begins at a tenth of a second and doubles
    #[arg(long, env = "CARD_BACKOFF_CAP_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub card_backoff_cap_ms: u64,

    /// How often to look for work when nobody wakes the worker, in milliseconds
    #[arg(long, env = "CARD_POLL_MS", default_value_t = 250, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub card_poll_ms: u64,
}

impl CardSettings {
    /// How the worker works that `waker` wakes.
    pub(crate) fn pace(&self, waker: Waker) -> Pace {
        let poll = Duration::from_millis(self.card_poll_ms);
        Pace {
            concurrency: self.card_concurrency.into(),
            poll,
            waker,
        }
    }
}
