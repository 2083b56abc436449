//! The environment of each service on one machine, in one place.

use std::{collections::BTreeMap, path::PathBuf};

use crate::workspace;

/// The services, in the order in which they are shown.
pub const SERVICES: [&str; 6] = [
    "order",
    "payment",
    "inventory",
    "notification",
    "orchestrator",
    "card-processor",
];

/// The control room: it stores nothing, reads from all services, and is shown before them.
pub const ROOM: &str = "control-room";

/// Returns the port that a service gets if it is free, so that bookmarks and the README's commands work. A new service
/// gets the next port, and no other moves.
pub fn preferred_port(service: &str) -> u16 {
    match service {
        ROOM => 7000,
        "payment" => 7002,
        "inventory" => 7003,
        "notification" => 7004,
        "card-processor" => 7005,
        "orchestrator" => 7006,
        // "order", where most commands go.
        _ => 7001,
    }
}

/// Returns the name of a service's database, and of the role that owns it, as in `deploy/postgres/roles.sql`.
pub fn database_of(service: &str) -> String {
    match service {
        "card-processor" => "card_processor".to_owned(),
        service => format!("{service}_service"),
    }
}

/// Returns the variable by which a service finds Redis, if it has locks there.
pub fn redis_environment(service: &str, url: &str) -> Option<(String, String)> {
    (service == "payment").then(|| ("REDIS_URL".to_owned(), url.to_owned()))
}

/// Returns the settings of traces: they are not exported unless the environment names an exporter.
fn traces() -> impl Iterator<Item = (String, String)> {
    let exporter = std::env::var("OTEL_TRACES_EXPORTER").unwrap_or_else(|_| "none".to_owned());
    let endpoints = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_ZIPKIN_ENDPOINT",
    ];
    let endpoints = endpoints
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
    std::iter::once(("OTEL_TRACES_EXPORTER".to_owned(), exporter)).chain(endpoints)
}

/// The addresses of all servers and services of a stack.
#[derive(Clone, Debug)]
pub struct Wiring {
    /// The port of each service on 127.0.0.1.
    pub ports: BTreeMap<&'static str, u16>,
    /// The database of each service.
    pub databases: BTreeMap<&'static str, String>,
    /// The broker's URL for each service; the card processor has none.
    pub brokers: BTreeMap<&'static str, String>,
    /// The URL of the mail server.
    pub smtp: String,
    /// The URL of the card processor for payment, if it differs from the service's own.
    pub card_processor: Option<String>,
    /// The broker's page for people, if it is to be linked.
    pub broker_page: Option<String>,
    /// The file with the services' token.
    pub token_file: PathBuf,
    /// Additional settings for all services, such as `CONSUMER_CHAOS`.
    pub extra: Vec<(String, String)>,
}

impl Wiring {
    /// Returns the address of a service.
    pub fn url(&self, service: &str) -> String {
        format!(
            "http://127.0.0.1:{}",
            self.ports.get(service).copied().unwrap_or(0)
        )
    }

    /// Returns the environment of a service.
    pub fn environment(&self, service: &'static str) -> Vec<(String, String)> {
        let port = self.ports.get(service).copied().unwrap_or(0);
        let mut environment = vec![
            ("HTTP_LISTEN".to_owned(), format!("127.0.0.1:{port}")),
            (
                "JWKS".to_owned(),
                workspace::root()
                    .join("deploy/development/jwks.json")
                    .display()
                    .to_string(),
            ),
        ];
        environment.extend(traces());
        let mut set = |name: &str, value: String| environment.push((name.to_owned(), value));
        if let Some(database) = self.databases.get(service) {
            set("DATABASE_URL", database.clone());
        }
        if let Some(broker) = self.brokers.get(service) {
            set("AMQP_URL", broker.clone());
        }
        match service {
            "order" => {
                set("INVENTORY_URL", self.url("inventory"));
                set("SERVICE_TOKEN_FILE", self.token_file.display().to_string());
            }
            "payment" => {
                set(
                    "CARD_PROCESSOR_URL",
                    self.card_processor
                        .clone()
                        .unwrap_or_else(|| self.url("card-processor")),
                );
                set("SERVICE_TOKEN_FILE", self.token_file.display().to_string());
            }
            "notification" => {
                set("SMTP_URL", self.smtp.clone());
                let keys = workspace::root().join("deploy/development/secrets/webhook-keys");
                set("WEBHOOK_KEYS_FILE", keys.display().to_string());
            }
            ROOM => {
                // There is no page with traces on this machine.
                set("TRACE_URL", String::new());
                set("ROOM_LINKS", self.links());
            }
            // A decision may take longer than other requests: the knob for latency goes further.
            "card-processor" => set("HTTP_REQUEST_TIMEOUT_MS", "60000".to_owned()),
            _ => {}
        }
        environment.extend(self.extra.iter().cloned());
        environment
    }

    /// Returns the links of the front page: every service's API, and the broker's page.
    fn links(&self) -> String {
        let link = |service: &str| {
            let url = self.url(service);
            format!(
                r#"{{"name":"{service} API","url":"{url}/docs/","what":"try it with a token of `cargo xtask token alice`"}}"#
            )
        };
        let mut links: Vec<String> = SERVICES.iter().map(|service| link(service)).collect();
        if let Some(page) = &self.broker_page {
            links.insert(0, format!(r#"{{"name":"RabbitMQ","url":"{page}","what":"queues and their messages (admin, development-admin)"}}"#));
        }
        format!("[{}]", links.join(","))
    }

    /// Returns the variables by which `traffic` and `reconcile` find the services and their books.
    pub fn tools_environment(
        &self,
        rabbitmq_api: &str,
        audit: &BTreeMap<&'static str, String>,
    ) -> Vec<(String, String)> {
        let mut environment: Vec<(String, String)> = SERVICES
            .iter()
            .map(|service| {
                (
                    format!("{}_URL", service.to_uppercase().replace('-', "_")),
                    self.url(service),
                )
            })
            .collect();
        environment.extend(audit.iter().map(|(service, url)| {
            (
                format!("{}_DATABASE_URL", service.to_uppercase().replace('-', "_")),
                url.clone(),
            )
        }));
        environment.push(("RABBITMQ_API".to_owned(), rabbitmq_api.to_owned()));
        environment
    }
}
