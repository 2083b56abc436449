//! The settings: each an environment variable, each documented by `--help`.

use std::{path::PathBuf, time::Duration};

use chassis::{
    leased::Pace,
    settings::{BrokerSettings, Opens, Settings, TelemetrySettings},
};
use clap::{Args, Parser};
use holdfast::outbox::Waker;

/// Tells customers what became of their orders, by mail; and programs, by webhooks
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
    /// Webhooks.
    #[command(flatten)]
    pub webhook: WebhookSettings,
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

    /// How long the circuit breaker before the mail server stays open before it tries again, in milliseconds; twice as long each time that this fails, up to ten seconds
    #[arg(long, env = "MAIL_BREAKER_OPEN_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(10..=600_000))]
    pub mail_breaker_open_ms: u64,

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

/// Where webhooks may go, and how they are sent.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookSettings {
    /// Longest to wait for an answer, in milliseconds: for connecting, TLS and all
    #[arg(long, env = "WEBHOOK_TIMEOUT_MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub webhook_timeout_ms: u64,

    /// Webhooks that are sent at a time, in number; one endpoint has half of that
    #[arg(long, env = "WEBHOOK_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub webhook_concurrency: u16,

    /// Longest to wait before trying again, in milliseconds, unless Retry-After says longer; the wait begins at five seconds and doubles
    #[arg(long, env = "WEBHOOK_BACKOFF_CAP_MS", default_value_t = 3_600_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub webhook_backoff_cap_ms: u64,

    /// How long to try before a webhook has failed, in hours
    #[arg(long, env = "WEBHOOK_GIVE_UP_HOURS", default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub webhook_give_up_hours: u64,

    /// How long nothing must have been delivered before an endpoint is disabled, in hours
    #[arg(long, env = "WEBHOOK_DISABLE_AFTER_HOURS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub webhook_disable_after_hours: u64,

    /// Endpoints that a customer may have, or all operators together, in number
    #[arg(long, env = "WEBHOOK_MAX_ENDPOINTS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub webhook_max_endpoints: u16,

    /// How long what became of a webhook can be seen, in hours
    #[arg(long, env = "WEBHOOK_RETENTION_HOURS", default_value_t = 720, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub webhook_retention_hours: u64,

    /// How often to look for webhooks when nobody wakes the worker, in milliseconds
    #[arg(long, env = "WEBHOOK_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub webhook_poll_ms: u64,

    /// The file with the keys that seal webhook secrets: an id and 32 bytes in base64 a line, the first one seals, all of them open
    #[arg(
        long,
        env = "WEBHOOK_KEYS_FILE",
        default_value = "deploy/development/secrets/webhook-keys"
    )]
    pub webhook_keys_file: PathBuf,

    /// Keep webhook secrets sealed; `false` puts them back in plain, while replicas run that cannot open them (docs/deploy.md)
    #[arg(long, env = "WEBHOOK_SEAL_SECRETS", default_value_t = true, action = clap::ArgAction::Set)]
    pub webhook_seal_secrets: bool,

    /// Let endpoints be http:// too, which anybody on the way may read; not for ENVIRONMENT=production
    #[arg(long, env = "WEBHOOK_ALLOW_HTTP", value_parser = Opens::parser(), action = clap::ArgAction::SetTrue)]
    pub webhook_allow_http: Opens,

    /// Send to private addresses too, for demonstrations: whoever may register an endpoint can then reach what only we can reach; not for ENVIRONMENT=production
    #[arg(long, env = "WEBHOOK_ALLOW_PRIVATE", value_parser = Opens::parser(), action = clap::ArgAction::SetTrue)]
    pub webhook_allow_private: Opens,
}

impl WebhookSettings {
    /// How the worker works that `waker` wakes.
    pub(crate) fn pace(&self, waker: Waker) -> Pace {
        Pace {
            concurrency: self.webhook_concurrency.into(),
            poll: Duration::from_millis(self.webhook_poll_ms),
            waker,
        }
    }
}
