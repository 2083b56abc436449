//! The settings of webhooks. Each is an environment variable, and documented by `--help`.

use std::{path::PathBuf, time::Duration};

use chassis::settings::Opens;
use clap::Args;
use holdfast::{leased_work::Pace, outbox::Waker};

/// The hosts that webhooks may go to, and the sending of webhooks.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookSettings {
    /// Timeout of one attempt, in milliseconds, with connecting and TLS
    #[arg(long, env = "WEBHOOK_TIMEOUT_MS", default_value_t = 15_000, value_parser = clap::value_parser!(u64).range(100..=60_000))]
    pub webhook_timeout_ms: u64,

    /// Most webhooks that are sent at a time, in number; at most half of them to one endpoint
    #[arg(long, env = "WEBHOOK_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub webhook_concurrency: u16,

    /// Longest wait before a webhook is tried again, in milliseconds, unless Retry-After says longer; the wait begins
    /// at five seconds and doubles
    #[arg(long, env = "WEBHOOK_BACKOFF_CAP_MS", default_value_t = 3_600_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub webhook_backoff_cap_ms: u64,

    /// Time after which a webhook that could not be delivered has failed, in hours
    #[arg(long, env = "WEBHOOK_GIVE_UP_HOURS", default_value_t = 72, value_parser = clap::value_parser!(u64).range(1..=720))]
    pub webhook_give_up_hours: u64,

    /// Time without a delivery after which a failing endpoint is disabled, in hours
    #[arg(long, env = "WEBHOOK_DISABLE_AFTER_HOURS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=8760))]
    pub webhook_disable_after_hours: u64,

    /// Most endpoints of one customer, or of all operators together, in number
    #[arg(long, env = "WEBHOOK_MAX_ENDPOINTS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub webhook_max_endpoints: u16,

    /// Time for which a webhook is kept after it was delivered, has failed or was held, in hours
    #[arg(long, env = "WEBHOOK_RETENTION_HOURS", default_value_t = 720, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub webhook_retention_hours: u64,

    /// Time after which a worker that is not woken looks for due webhooks, in milliseconds
    #[arg(long, env = "WEBHOOK_POLL_MS", default_value_t = 500, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    pub webhook_poll_ms: u64,

    /// File with the keys that seal webhook secrets: an id and 32 bytes in base64 a line; the first key seals, every
    /// key opens
    #[arg(
        long,
        env = "WEBHOOK_KEYS_FILE",
        default_value = "deploy/development/secrets/webhook-keys"
    )]
    pub webhook_keys_file: PathBuf,

    /// Keep webhook secrets sealed; `false` stores them in plain again, for replicas that cannot open them
    /// (docs/deploy.md)
    #[arg(long, env = "WEBHOOK_SEAL_SECRETS", default_value_t = true, action = clap::ArgAction::Set)]
    pub webhook_seal_secrets: bool,

    /// Allow http:// endpoints, whose webhooks can be read on their way; not for ENVIRONMENT=production
    #[arg(long, env = "WEBHOOK_ALLOW_HTTP", value_parser = Opens::parser(), action = clap::ArgAction::SetTrue)]
    pub webhook_allow_http: Opens,

    /// Allow private addresses, for demonstrations: anyone who may register an endpoint can then reach servers that
    /// only this service can reach; not for ENVIRONMENT=production
    #[arg(long, env = "WEBHOOK_ALLOW_PRIVATE", value_parser = Opens::parser(), action = clap::ArgAction::SetTrue)]
    pub webhook_allow_private: Opens,
}

impl WebhookSettings {
    /// Returns the pace of the worker that `waker` wakes.
    pub(crate) fn pace(&self, waker: Waker) -> Pace {
        Pace {
            concurrency: self.webhook_concurrency.into(),
            poll: Duration::from_millis(self.webhook_poll_ms),
            waker: waker.into(),
        }
    }
}
