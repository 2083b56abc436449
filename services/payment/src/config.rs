//! The settings: each an environment variable, each documented by `--help`.

use std::{path::PathBuf, time::Duration};

use chassis::{
    leased::Pace,
    settings::{BrokerSettings, Settings, TelemetrySettings},
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
