//! The settings. Each is an environment variable, and documented by `--help`.

use std::time::Duration;

use chassis::settings::{BrokerSettings, Settings, TelemetrySettings};
use clap::{Args, Parser};
use holdfast::{leased_work::Pace, outbox::Waker};

use crate::webhooks::config::WebhookSettings;

/// Tells customers by mail, and programs by webhooks, how orders ended
#[derive(Clone, Debug, Parser)]
#[command(name = "notification")]
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
    /// The mail server, and the sending of mails.
    #[command(flatten)]
    pub mail: MailSettings,
    /// The rules and limits of webhooks.
    #[command(flatten)]
    pub webhook: WebhookSettings,
}

/// The mail server, and the sending of mails.
#[derive(Args, Clone)]
#[command(next_help_heading = "Mail")]
pub struct MailSettings {
    /// The mail server, as smtp://HOST:PORT, smtp://HOST:PORT?tls=required, or smtps://USER:PASSWORD@HOST:PORT
    #[arg(long, env = "SMTP_URL", hide_env_values = true)]
    pub smtp_url: String,

    /// Sender of the mails, with name and address
    #[arg(
        long,
        env = "MAIL_FROM",
        default_value = "Holdfast <orders@holdfast.example>"
    )]
    pub mail_from: String,

    /// Timeout of one command to the mail server, in milliseconds; a whole mail may take twice as long
    #[arg(long, env = "SMTP_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub smtp_timeout_ms: u64,

    /// Most mails that are sent at a time, in number
    #[arg(long, env = "MAIL_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub mail_concurrency: u16,

    /// Time for which the circuit breaker before the mail server stays open before it permits a probe, in milliseconds;
    /// doubled each time that a probe fails, up to ten seconds
    #[arg(long, env = "MAIL_BREAKER_OPEN_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub mail_breaker_open_ms: u64,

    /// Longest wait before a mail is tried again, in milliseconds; the wait begins at half a second and doubles
    #[arg(long, env = "MAIL_BACKOFF_CAP_MS", default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(500..=86_400_000))]
    pub mail_backoff_cap_ms: u64,

    /// Time after which a mail that could not be sent has failed, in hours
    #[arg(long, env = "MAIL_GIVE_UP_HOURS", default_value_t = 48, value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub mail_give_up_hours: u64,

    /// Time after which a worker that is not woken looks for due mails, in milliseconds
    #[arg(long, env = "MAIL_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub mail_poll_ms: u64,
}

impl MailSettings {
    /// Returns the pace of the worker that `waker` wakes.
    pub(crate) fn pace(&self, waker: Waker) -> Pace {
        Pace {
            concurrency: self.mail_concurrency.into(),
            poll: Duration::from_millis(self.mail_poll_ms),
            waker: waker.into(),
        }
    }
}

impl std::fmt::Debug for MailSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MailSettings").finish_non_exhaustive() // the URL may have a password in it
    }
}
