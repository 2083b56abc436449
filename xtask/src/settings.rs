//! The settings that a person gives to services by the environment of `cargo xtask up`.
//!
//! The configuration reference of `docs/deploy.md` lists the variables of each service; a test compares it with the
//! services' `--help`. The variables that `up` sets itself are not passed on: addresses, passwords, and the settings
//! that depend on them.

use std::{collections::BTreeMap, fs};

use crate::{
    Context, Result,
    wiring::{ROOM, SERVICES},
    workspace,
};

/// The variables that `up` sets, because it starts the servers that they name.
const OWNED: [&str; 31] = [
    "ACCOUNT_LOCK_NAME",
    "AMQP_PASSWORD_FILE",
    "AMQP_URL",
    "AUDITOR_PASSWORD_FILE",
    "CARD_PROCESSOR_DATABASE_URL",
    "CARD_PROCESSOR_URL",
    "DATABASE_PASSWORD_FILE",
    "DATABASE_URL",
    "DEMO_MODE",
    "ENVIRONMENT",
    "HTTP_LISTEN",
    "INVENTORY_DATABASE_URL",
    "INVENTORY_URL",
    "JWKS",
    "NOTIFICATION_DATABASE_URL",
    "NOTIFICATION_URL",
    "OPERATOR_TOKEN_FILE",
    "ORCHESTRATOR_DATABASE_URL",
    "ORCHESTRATOR_URL",
    "ORDER_DATABASE_URL",
    "ORDER_URL",
    "PAYMENT_DATABASE_URL",
    "PAYMENT_URL",
    "RABBITMQ_API",
    "RABBITMQ_VHOST",
    "REDIS_PASSWORD_FILE",
    "REDIS_URL",
    "SERVICE_TOKEN_FILE",
    "SMTP_URL",
    "TOKEN_AUDIENCE",
    "TOKEN_ISSUER",
];

/// The documented variables, each with the services that read it.
#[derive(Debug)]
pub struct Reference(BTreeMap<String, Vec<&'static str>>);

/// The settings that a person gave, by service.
#[derive(Clone, Debug, Default)]
pub struct Given(BTreeMap<&'static str, Vec<(String, String)>>);

impl Reference {
    /// Reads the reference of this checkout.
    pub fn read() -> Result<Self> {
        let path = workspace::root().join("docs/deploy.md");
        let page = fs::read_to_string(&path).context(path.display())?;
        Ok(Self::parse(&page))
    }

    /// Parses the tables of a page: the heading of each names its services after a colon, and its first column the
    /// variables.
    fn parse(page: &str) -> Self {
        let all = || SERVICES.into_iter().chain([ROOM]);
        let reference = page.split("<!-- generated: configuration -->").nth(1);
        let reference = reference.and_then(|text| text.split("<!-- end -->").next());
        let mut variables: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        let mut services: Vec<&'static str> = Vec::new();
        for line in reference.unwrap_or_default().lines() {
            if let Some((_, whose)) = line
                .strip_prefix("#### ")
                .and_then(|heading| heading.split_once(": "))
            {
                let named: Vec<&str> = whose.split(", ").collect();
                let is_named = |service: &&str| whose == "every service" || named.contains(service);
                services = all().filter(is_named).collect();
            }
            if let Some((variable, _)) = line
                .strip_prefix("| `")
                .and_then(|line| line.split_once('`'))
            {
                let readers = variables.entry(variable.to_owned()).or_default();
                readers.extend(services.iter().copied());
            }
        }
        Self(variables)
    }

    /// Returns the documented variables that `lookup` has a value for, and the names of those that are not passed on.
    pub fn given(&self, lookup: impl Fn(&str) -> Option<String>) -> (Given, Vec<String>) {
        let mut given = Given::default();
        let mut kept = Vec::new();
        for (variable, services) in &self.0 {
            let Some(value) = lookup(variable) else {
                continue;
            };
            if OWNED.contains(&variable.as_str()) {
                kept.push(variable.clone());
                continue;
            }
            for service in services {
                let settings = given.0.entry(service).or_default();
                settings.push((variable.clone(), value.clone()));
            }
        }
        (given, kept)
    }
}

impl Given {
    /// Returns the settings of a service.
    pub fn of(&self, service: &str) -> &[(String, String)] {
        self.0.get(service).map_or(&[], Vec::as_slice)
    }

    /// Returns each variable with the services that it goes to, for a person.
    pub fn describe(&self) -> Vec<String> {
        let mut readers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (service, settings) in &self.0 {
            for (variable, _) in settings {
                readers.entry(variable).or_default().push(service);
            }
        }
        let all = SERVICES.len() + 1;
        readers
            .into_iter()
            .map(|(variable, services)| {
                if services.len() == all {
                    format!("{variable} (every service)")
                } else {
                    format!("{variable} ({})", services.join(", "))
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_setting_is_passed_on_or_set_by_up() {
        let reference = Reference::read().expect("the page is there");
        let (given, kept) = reference.given(|variable| Some(format!("a {variable}")));
        for (variable, services) in &reference.0 {
            assert!(!services.is_empty(), "no service reads {variable}");
            let is_kept = kept.contains(variable);
            assert_eq!(is_kept, OWNED.contains(&variable.as_str()), "{variable}");
            for service in services {
                let value = (variable.clone(), format!("a {variable}"));
                assert_ne!(given.of(service).contains(&value), is_kept, "{variable}");
            }
        }
        for owned in OWNED {
            assert!(reference.0.contains_key(owned), "{owned} is not documented");
        }
    }

    #[test]
    fn webhooks_can_be_tried_as_their_page_says() {
        let reference = Reference::read().expect("the page is there");
        let switches = ["WEBHOOK_ALLOW_HTTP", "WEBHOOK_ALLOW_PRIVATE"];
        let (given, _) =
            reference.given(|variable| switches.contains(&variable).then(|| "true".to_owned()));
        let wanted = switches.map(|switch| (switch.to_owned(), "true".to_owned()));
        assert_eq!(given.of("notification"), wanted);
        assert!(given.of("order").is_empty());
        assert_eq!(
            given.describe(),
            switches.map(|switch| format!("{switch} (notification)"))
        );
    }
}
