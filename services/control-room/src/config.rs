//! The settings. Each is an environment variable, and documented by `--help`.

use std::{path::PathBuf, str::FromStr};

use actix_web::http::uri::Authority;
use chassis::settings::{
    DemoSettings, Environment, HttpSettings, IdentitySettings, TelemetrySettings, with_password,
};
use clap::{Args, Parser};
use load_tests::{api::ServiceUrls, drill::LockServer, reconcile::Sources};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The front page: live orders, controls that break things, parked messages, and the books, compared live
#[derive(Clone, Parser)]
#[command(name = "control-room")]
pub struct Config {
    /// The HTTP server.
    #[command(flatten)]
    pub http: HttpSettings,
    /// The settings of tokens.
    #[command(flatten)]
    pub identity: IdentitySettings,
    /// The settings of demo mode.
    #[command(flatten)]
    pub demo: DemoSettings,
    /// The settings of logs and traces.
    #[command(flatten)]
    pub telemetry: TelemetrySettings,
    /// The URLs of the services.
    #[command(flatten)]
    pub urls: ServiceUrls,
    /// The databases and the broker that the books are read from.
    #[command(flatten)]
    pub books: Sources,
    /// The Redis that keeps the locks, for drills.
    #[command(flatten)]
    pub locks: LockServer,
    /// The room's own settings.
    #[command(flatten)]
    pub room: RoomSettings,
}

impl Config {
    /// Fails in production if a password that the room would use is one of development.
    pub(crate) fn refuse_development_passwords(&self) -> anyhow::Result<()> {
        let environment = Environment::of(&self.identity);
        environment.refuse_development_password("AMQP_URL", &self.room.amqp()?)?;
        for (variable, url) in self.books.urls()? {
            environment.refuse_development_password(variable, &url)?;
        }
        Ok(())
    }
}

/// The room's own settings.
#[derive(Args, Clone)]
#[command(next_help_heading = "Room")]
pub struct RoomSettings {
    /// The broker, as amqp://USER:PASSWORD@HOST:PORT/VHOST; the room only observes
    #[arg(long, env = "AMQP_URL", hide_env_values = true)]
    pub amqp_url: String,

    /// A file with the password, instead of the one in AMQP_URL
    #[arg(long, env = "AMQP_PASSWORD_FILE")]
    pub amqp_password_file: Option<PathBuf>,

    /// File with the operator's token under which the room reads; needed without DEMO_MODE, read again for each call
    #[arg(long, env = "OPERATOR_TOKEN_FILE")]
    pub operator_token_file: Option<PathBuf>,

    /// Names under which browsers reach the room besides localhost, 127.0.0.1 and [::1], each as NAME or NAME:PORT,
    /// with commas or spaces between them; requests to any other name are answered 403
    #[arg(long, env = "ROOM_HOSTS")]
    pub room_hosts: Option<Hosts>,

    /// Most streams at a time, in number; any more are answered 503
    #[arg(long, env = "ROOM_WATCHERS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub room_watchers: u16,

    /// URL of a trace's page, with {trace_id} in place of the id; empty for no link
    #[arg(long, env = "TRACE_URL", default_value = "/jaeger/trace/{trace_id}")]
    pub trace_url: String,

    /// Links at the top of the page, as a JSON list of {"name", "url", "what"}; by default the pages behind
    /// docker-compose.yml's front door
    #[arg(long, env = "ROOM_LINKS", value_parser = links)]
    pub room_links: Option<Links>,
}

/// The names under which browsers may reach the room. A name without a port allows every port.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<Authority>);

/// The loopback names, which are always allowed.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl Hosts {
    /// Returns true if `host` is a loopback name or one of these.
    pub(crate) fn has(&self, host: &Authority) -> bool {
        let is = |name: &str| name.eq_ignore_ascii_case(host.host());
        // A valid `Host` has no user before the host.
        !host.as_str().contains('@')
            && (LOOPBACK.into_iter().any(is)
                || self.0.iter().any(|known| {
                    is(known.host())
                        && known
                            .port_u16()
                            .is_none_or(|port| host.port_u16() == Some(port))
                }))
    }
}

impl FromStr for Hosts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split([',', ' ']).filter(|name| !name.is_empty());
        let hosts = names.map(|name| match name.parse::<Authority>() {
            Ok(host) if !name.contains(['@', '*']) => Ok(host),
            _ => Err(format!(
                "{name:?} is not a valid host: write NAME or NAME:PORT"
            )),
        });
        hosts.collect::<Result<_, _>>().map(Self)
    }
}

/// The pages behind the front door of `docker-compose.yml`.
const FRONT_DOOR: &str = r#"[
{"name":"Jaeger","url":"/jaeger/","what":"each order's trace through all services"},
{"name":"Grafana","url":"/grafana/","what":"dashboards: orders, services, messages"},
{"name":"Prometheus","url":"/prometheus/","what":"metrics, rules and alerts"},
{"name":"RabbitMQ","url":"/rabbitmq/","what":"queues and their messages (admin, development-admin)"},
{"name":"Mailpit","url":"/mailpit/","what":"the mails to customers"},
{"name":"order API","url":"/api/order/docs/","what":"try it with a token"}]"#;

/// A link to another page.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// The link's text.
    pub name: String,
    /// The page's URL, or a path on the room's own host.
    pub url: String,
    /// A short description of the page.
    pub what: String,
}

/// The links to other pages.
#[derive(Clone, Debug)]
pub struct Links(pub Vec<Link>);

fn links(json: &str) -> Result<Links, String> {
    serde_json::from_str(json)
        .map(Links)
        .map_err(|error| error.to_string())
}

impl RoomSettings {
    /// Returns the broker's URL, with the password from the file if one is set. Fails if the file cannot be read.
    pub fn amqp(&self) -> anyhow::Result<String> {
        with_password(&self.amqp_url, self.amqp_password_file.as_deref())
    }

    /// Returns the links to other pages: those of the setting, or the pages behind the front door.
    pub fn links(&self) -> Vec<Link> {
        let front_door = || serde_json::from_str(FRONT_DOOR).unwrap_or_default();
        let given = self.room_links.clone().map(|Links(links)| links);
        given.unwrap_or_else(front_door)
    }

    /// Returns the URL of a trace's page, with `{trace_id}` in place of the id; `None` if the setting is empty.
    pub fn trace_page(&self) -> Option<String> {
        (!self.trace_url.is_empty()).then(|| self.trace_url.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_or_without_a_port() {
        let hosts: Hosts = "room.example,demo.example:8443 [2001:db8::1]"
            .parse()
            .expect("hosts");
        for (host, wanted) in [
            ("room.example", true),
            ("ROOM.example:80", true),
            ("demo.example:8443", true),
            ("demo.example", false),
            ("[2001:db8::1]:8080", true),
            ("other.example", false),
        ] {
            assert_eq!(hosts.has(&host.parse().expect(host)), wanted, "{host}");
        }
        for wrong in ["*.example", "user@room.example", "http://room.example/"] {
            let refused = wrong.parse::<Hosts>().expect_err(wrong);
            assert!(refused.contains(wrong), "{refused}");
        }
    }

    #[test]
    fn front_door_links_are_relative() {
        let links: Vec<Link> = serde_json::from_str(FRONT_DOOR).expect("JSON");
        assert!(links.iter().all(|link| link.url.starts_with('/')));
    }
}
