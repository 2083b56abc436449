//! The settings: each an environment variable, each documented by `--help`.

use std::time::Duration;

use chassis::{
    leased::Pace,
    settings::{BrokerSettings, Settings, TelemetrySettings},
};
use clap::{Args, Parser};
use holdfast::outbox::Waker;

/// Tells customers what became of their orders, by mail
#[derive(Clone, Debug, Parser)]
#[command(name = "notification")]
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
    /// The mail server.
    #[command(flatten)]
    pub mail: MailSettings,
}

/// The mail server, and how mails are sent.
#[derive(Args, Clone)]
#[command(next_help_heading = "Mail")]
pub struct MailSettings {
    /// The mail server, as smtp://HOST:PORT, smtp://HOST:PORT?tls=required, or smtps://USER:PASSWORD@HOST:PORT
    #[arg(long, env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: String,

    /// The sender
    #[arg(
        long,
        env = "MAIL_FROM",
        default_value = "Holdfast <orders@holdfast.example>"
    )]
    pub mail_from: String,

    /// Longest to wait for one answer of the server, in milliseconds
    #[arg(long, env = "SMTP_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub smtp_timeout_ms: u64,

    /// Mails that are sent at a time, in number
    #[arg(long, env = "MAIL_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub mail_concurrency: u16,

    /// Longest to wait before trying again, in milliseconds; the wait begins at half a second and doubles
    #[arg(long, env = "MAIL_BACKOFF_CAP_MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(500..=86_400_000))]
    pub mail_backoff_cap_ms: u64,

    /// How long to try before a mail has failed, in hours
    #[arg(long, env = "MAIL_GIVE_UP_HOURS", default_value_t = 48, value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub mail_give_up_hours: u64,

    /// How often to look for mails when nobody wakes the worker, in milliseconds
    #[arg(long, env = "MAIL_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub mail_poll_ms: u64,
}

impl MailSettings {
    /// How the worker works that `waker` wakes.
    pub(crate) fn pace(&self, waker: Waker) -> Pace {
        Pace {
            concurrency: self.mail_concurrency.into(),
            poll: Duration::from_millis(self.mail_poll_ms),
            waker,
        }
    }
}

impl std::fmt::Debug for MailSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailSettings").finish_non_exhaustive() // the URL may have a password in it
    }
}
