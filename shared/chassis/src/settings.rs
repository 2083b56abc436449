//! The settings that all services share. Each is an environment variable; `--help` documents it.

mod guards;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
pub use guards::{Environment, NotForProduction, Opens};
use holdfast::telemetry::{self, Exporter, Format, Sampling, Traces};

/// The settings that every service has.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// The HTTP server.
    #[command(flatten)]
    pub http: HttpSettings,
    /// The service's own database.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// The tokens that are accepted.
    #[command(flatten)]
    pub identity: IdentitySettings,
    /// The rights of demonstrations.
    #[command(flatten)]
    pub demo: DemoSettings,
}

/// The HTTP server.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP")]
pub struct HttpSettings {
    /// Address to listen on; port 0 takes any free one
    #[arg(long, env = "HTTP_LISTEN", default_value = "127.0.0.1:0")]
    pub http_listen: SocketAddr,

    /// Threads that serve requests
    #[arg(long, env = "HTTP_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub http_workers: u16,

    /// Whole requests in progress at a time, in number; more are answered 503 with Retry-After
    #[arg(long, env = "HTTP_MAX_CONCURRENT", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub http_max_concurrent: u32,

    /// Largest request body, in bytes; a larger one is answered 413
    #[arg(long, env = "HTTP_MAX_BODY_BYTES", default_value_t = 65536, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub http_max_body_bytes: u32,

    /// Bodies that may be arriving at a time, in number; more are answered 503 with Retry-After. A body that came with
    /// its head is not counted
    #[arg(long, env = "HTTP_MAX_ARRIVING", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub http_max_arriving: u32,

    /// Bodies of one customer, or without a token of one address, that may be arriving at a time, in number; more are
    /// answered 408 at once
    #[arg(long, env = "HTTP_MAX_ARRIVING_PER_CLIENT", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub http_max_arriving_per_client: u32,

    /// Longest that a request's body may take to arrive, in milliseconds; a later one is answered 408
    #[arg(long, env = "HTTP_BODY_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub http_body_timeout_ms: u64,

    /// Longest that a whole request may take, in milliseconds; a caller's deadline can only shorten it
    #[arg(long, env = "HTTP_REQUEST_TIMEOUT_MS", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub http_request_timeout_ms: u64,
}

impl HttpSettings {
    /// Returns the longest that a body may take to arrive.
    pub fn body_timeout(&self) -> Duration {
        Duration::from_millis(self.http_body_timeout_ms)
    }

    /// Returns the longest that a whole request may take.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.http_request_timeout_ms)
    }
}

/// The service's own database.
#[derive(Args, Clone)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// The service's own database, as postgres://ROLE:PASSWORD@HOST:PORT/NAME
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: String,

    /// A file with the password, instead of the one in DATABASE_URL
    #[arg(long, env = "DATABASE_PASSWORD_FILE")]
    pub database_password_file: Option<PathBuf>,

    /// Most connections of the pool to the database, in number; readiness has one more
    #[arg(long, env = "DATABASE_MAX_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1000))]
    pub database_max_connections: u32,

    /// Longest to wait for a connection to the database, in milliseconds
    #[arg(long, env = "DATABASE_ACQUIRE_TIMEOUT_MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub database_acquire_timeout_ms: u64,

    /// Longest that one statement may take, in milliseconds
    #[arg(long, env = "DATABASE_STATEMENT_TIMEOUT_MS", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub database_statement_timeout_ms: u64,
}

impl DatabaseSettings {
    /// Returns the database's URL, with the password of the file if there is one.
    pub fn url(&self) -> anyhow::Result<String> {
        with_password(&self.database_url, self.database_password_file.as_deref())
    }
}

impl std::fmt::Debug for DatabaseSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseSettings").finish_non_exhaustive() // the URL has a password in it
    }
}

/// The broker, and the way in which queues are consumed.
#[derive(Args, Clone)]
#[command(next_help_heading = "Broker")]
pub struct BrokerSettings {
    /// The broker, as amqp://USER:PASSWORD@HOST:PORT/VHOST
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,

    /// A file with the password, instead of the one in AMQP_URL
    #[arg(long, env = "AMQP_PASSWORD_FILE")]
    pub amqp_password_file: Option<PathBuf>,

    /// Messages that one transaction handles, at most
    #[arg(long, env = "CONSUMER_BATCH", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub consumer_batch: u16,

    /// Longest to wait for a batch to fill if the last one had more than one message, in milliseconds
    #[arg(long, env = "CONSUMER_LINGER_MS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=1000))]
    pub consumer_linger_ms: u64,

    /// Delay queues that a failing message goes through before it is parked, in number; as many as the topology has
    #[arg(long, env = "CONSUMER_RETRIES", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=20))]
    pub consumer_retries: u32,

    /// Time for which the ids of consumed messages are kept, in hours; longer than a message can wait anywhere
    #[arg(long, env = "INBOX_RETENTION_HOURS", default_value_t = 168, value_parser = clap::value_parser!(u64).range(1..=87_600))]
    pub inbox_retention_hours: u64,
}

impl BrokerSettings {
    /// Returns the broker's URL, with the password of the file if there is one.
    pub fn url(&self) -> anyhow::Result<String> {
        with_password(&self.amqp_url, self.amqp_password_file.as_deref())
    }

    /// Returns a subscription to `queue` with these settings.
    pub fn subscription(&self, queue: &str) -> holdfast::messaging::Subscription {
        holdfast::messaging::Subscription {
            batch: self.consumer_batch,
            prefetch: self.consumer_batch.saturating_mul(2),
            linger: Duration::from_millis(self.consumer_linger_ms),
            retries: self.consumer_retries,
            ..holdfast::messaging::Subscription::new(queue)
        }
    }
}

impl std::fmt::Debug for BrokerSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerSettings").finish_non_exhaustive() // the URL has a password in it
    }
}

/// Returns `url` with the password from `file`, without a line end after it; `url` as it is, if there is no file.
///
/// Container platforms hand over secrets in files, because everybody who may inspect a container can read its
/// environment.
pub fn with_password(url: &str, file: Option<&Path>) -> anyhow::Result<String> {
    let Some(file) = file else {
        return Ok(url.to_owned());
    };
    let password = std::fs::read_to_string(file)
        .with_context(|| format!("the password file {}", file.display()))?;
    // The error does not show the URL: there may be a password in it.
    let mut url = reqwest::Url::parse(url).context("a URL that is to get a password")?;
    url.set_password(Some(password.trim_end_matches(['\r', '\n'])))
        .map_err(|()| anyhow::anyhow!("a URL without a host takes no password"))?;
    Ok(url.into())
}

/// The tokens that are accepted.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Identity")]
pub struct IdentitySettings {
    /// The keys that sign tokens: a JWKS file, or the http(s) URL of one
    #[arg(long, env = "JWKS", default_value = "deploy/development/jwks.json")]
    pub jwks: String,

    /// Time after which the keys that sign tokens are loaded again, in seconds: a key that was removed from the JWKS is
    /// trusted for as long
    #[arg(long, env = "JWKS_REFRESH_SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(10..=3600))]
    pub jwks_refresh_seconds: u64,

    /// Longest that the last known keys are trusted while the JWKS cannot be loaded, in seconds; after that every token
    /// is answered 503
    #[arg(long, env = "JWKS_MAX_AGE_SECONDS", default_value_t = 43_200, value_parser = clap::value_parser!(u64).range(3600..=2_592_000))]
    pub jwks_max_age_seconds: u64,

    /// The issuer that a token must name
    #[arg(
        long,
        env = "TOKEN_ISSUER",
        default_value = "https://issuer.holdfast.example"
    )]
    pub token_issuer: String,

    /// The audience that a token must name
    #[arg(long, env = "TOKEN_AUDIENCE", default_value = "holdfast")]
    pub token_audience: String,

    /// The environment; `production` refuses demo mode, development keys and passwords, failpoints, and every switch
    /// that opens a guard
    #[arg(long, env = "ENVIRONMENT", default_value = "development", value_parser = ["development", "production"])]
    pub environment: String,
}

/// The rights of demonstrations.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Demonstration")]
pub struct DemoSettings {
    /// Let operators break things: pause queues, damage messages, crash at a line; not for ENVIRONMENT=production
    #[arg(long, env = "DEMO_MODE", value_parser = Opens::parser(), action = clap::ArgAction::SetTrue)]
    pub demo_mode: Opens,

    /// The address on which a proxy publishes this process, as ADDRESS:PORT; if it is not given, HTTP_LISTEN
    #[arg(long, env = "FRONT_DOOR")]
    pub front_door: Option<String>,

    /// Allow FRONT_DOOR to be reached from the network, although with demo mode or the development key everybody who
    /// reaches it is an operator; not for ENVIRONMENT=production
    #[arg(long, env = "DEMO_FOR_THE_NETWORK", value_parser = Opens::parser(), action = clap::ArgAction::SetTrue)]
    pub demo_for_the_network: Opens,
}

/// A process that the network reaches, and in which everybody who reaches it is an operator. Publish it on a loopback
/// address, end demo mode and use keys of your own, or set `DEMO_FOR_THE_NETWORK`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{opening} makes an operator of everybody who reaches {published}: publish it on 127.0.0.1, or set DEMO_FOR_THE_NETWORK=true"
)]
pub struct OpenToTheNetwork {
    opening: &'static str,
    published: String,
}

impl DemoSettings {
    /// Returns whether demo mode is on. Fails in production if it is.
    pub fn is_on(&self, identity: &IdentitySettings) -> Result<bool, NotForProduction> {
        self.demo_mode
            .is_open("DEMO_MODE", Environment::of(identity))
    }

    /// Returns whether the network may reach what demo mode and the development key open. Fails in production if it
    /// may.
    pub(crate) fn is_for_the_network(
        &self,
        environment: Environment,
    ) -> Result<bool, NotForProduction> {
        self.demo_for_the_network
            .is_open("DEMO_FOR_THE_NETWORK", environment)
    }

    /// Fails if the network reaches what `opening` opens to everybody, unless `is_meant`.
    pub(crate) fn keep_from_the_network(
        &self,
        opening: &'static str,
        listen: SocketAddr,
        is_meant: bool,
    ) -> anyhow::Result<()> {
        let published = self.front_door.clone();
        let published = published.unwrap_or_else(|| listen.to_string());
        if is_meant || guards::is_loopback(&published) {
            return Ok(());
        }
        Err(OpenToTheNetwork { opening, published }.into())
    }
}

/// Logs and traces.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Telemetry")]
pub struct TelemetrySettings {
    /// Filter of the log: a level, and levels of modules
    #[arg(
        long,
        env = "LOG",
        default_value = "info,lapin=error,sqlx=warn,actix_server=warn"
    )]
    pub log: String,

    /// Format of log lines
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = ["text", "json"])]
    pub log_format: String,

    /// Destination of spans: a collector, a Jaeger agent (if the build has that), Zipkin, standard output, or none
    #[arg(long, env = "OTEL_TRACES_EXPORTER", default_value = "otlp", value_parser = ["otlp", "jaeger", "zipkin", "console", "none"])]
    pub otel_traces_exporter: String,

    /// The collector of otlp, as http://HOST:PORT; it is sent protobuf over HTTP, at /v1/traces
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_ENDPOINT",
        default_value = "http://localhost:4318"
    )]
    pub otel_exporter_otlp_endpoint: String,

    /// The whole URL at which zipkin takes spans
    #[arg(
        long,
        env = "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
        default_value = "http://localhost:9411/api/v2/spans"
    )]
    pub otel_exporter_zipkin_endpoint: String,

    /// The host of the Jaeger agent
    #[arg(
        long,
        env = "OTEL_EXPORTER_JAEGER_AGENT_HOST",
        default_value = "localhost"
    )]
    pub otel_exporter_jaeger_agent_host: String,

    /// The UDP port of the Jaeger agent, for its compact protocol
    #[arg(long, env = "OTEL_EXPORTER_JAEGER_AGENT_PORT", default_value_t = 6831)]
    pub otel_exporter_jaeger_agent_port: u16,

    /// Choice of traces that are kept: always_on, always_off or traceidratio, with parentbased_ before it if the caller
    /// decides
    #[arg(
        long,
        env = "OTEL_TRACES_SAMPLER",
        default_value = "parentbased_always_on"
    )]
    pub otel_traces_sampler: String,

    /// The share of traces that traceidratio keeps, from 0 to 1
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value_t = 1.0)]
    pub otel_traces_sampler_arg: f64,
}

impl TelemetrySettings {
    /// Returns the format of log lines.
    pub fn format(&self) -> Format {
        if self.log_format == "json" {
            Format::Json
        } else {
            Format::Text
        }
    }

    /// Returns the settings of tracing.
    pub fn traces(&self) -> Result<Traces, telemetry::Error> {
        let exporter = match self.otel_traces_exporter.as_str() {
            "otlp" => Exporter::Otlp {
                endpoint: self.otel_exporter_otlp_endpoint.clone(),
            },
            "zipkin" => Exporter::Zipkin {
                endpoint: self.otel_exporter_zipkin_endpoint.clone(),
            },
            "jaeger" => Exporter::Jaeger {
                host: self.otel_exporter_jaeger_agent_host.clone(),
                port: self.otel_exporter_jaeger_agent_port,
            },
            "console" => Exporter::Console,
            _ => Exporter::None,
        };
        let sampling = Sampling::named(&self.otel_traces_sampler, self.otel_traces_sampler_arg)?;
        Ok(Traces { exporter, sampling })
    }
}
