//! Switches that open a guard, and other settings that are fit for a developer's machine only.
//!
//! A switch of type [`Opens`] cannot be read without an [`Environment`], and production refuses it by name: a switch
//! that is added later is guarded by its type. Defaults and files of `deploy/development` are refused the same way. The
//! integration test `e2e::settings` starts every service with each of its switches.

use std::{fmt, net::IpAddr};

use clap::builder::{FalseyValueParser, TypedValueParser};
use reqwest::Url;

use super::IdentitySettings;

/// The prefix of the passwords in `deploy/development`, by which they are recognised wherever they are used.
const DEVELOPMENT: &str = "development-";

/// The environment that a process runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A developer's machine, a test, a demonstration.
    Development,
    /// Any place with data that must not be lost or seen.
    Production,
}

/// A setting that is for development alone. Unset it, or replace its value by one of your own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not for ENVIRONMENT=production")]
pub struct NotForProduction(String);

impl Environment {
    /// Returns the environment of a process with these settings.
    pub fn of(identity: &IdentitySettings) -> Self {
        match identity.environment.as_str() {
            "production" => Self::Production,
            _ => Self::Development,
        }
    }

    /// Fails in production, naming `what`.
    pub fn refuse(self, what: impl fmt::Display) -> Result<(), NotForProduction> {
        match self {
            Self::Development => Ok(()),
            Self::Production => Err(NotForProduction(what.to_string())),
        }
    }

    /// Fails in production if the password in `url` is one of `deploy/development`. `variable` names the variable that
    /// holds `url`.
    pub fn refuse_development_password(
        self,
        variable: &str,
        url: &str,
    ) -> Result<(), NotForProduction> {
        let is_development = Url::parse(url)
            .ok()
            .and_then(|url| Some(url.password()?.starts_with(DEVELOPMENT)))
            .unwrap_or(false);
        if is_development {
            self.refuse(format_args!("the development password in {variable}"))?;
        }
        Ok(())
    }
}

/// A switch that opens a guard. Its value can be read only together with the environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opens(bool);

impl Opens {
    /// Returns whether the guard is open. Fails in production if it is, naming `variable`.
    pub fn is_open(
        self,
        variable: &str,
        environment: Environment,
    ) -> Result<bool, NotForProduction> {
        if self.0 {
            environment.refuse(format_args!("{variable}=true"))?;
        }
        Ok(self.0)
    }

    /// Returns a parser of arguments and variables: `0`, `false`, `no`, `off` and an empty value leave the guard
    /// closed.
    pub fn parser() -> impl TypedValueParser<Value = Self> {
        FalseyValueParser::new().map(Self)
    }
}

/// Returns whether `published` (`PORT`, `ADDRESS:PORT` or `[ADDRESS]:PORT`, as Docker takes it) can be reached from
/// this machine alone. A port without an address is published on all addresses.
pub(crate) fn is_loopback(published: &str) -> bool {
    let address = published
        .rsplit_once(':')
        .map_or("", |(address, _)| address);
    let address = address.trim_start_matches('[').trim_end_matches(']');
    address == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn production_refuses_an_open_guard_by_name() {
        let read = |switch: Opens, environment| switch.is_open("SOME_SWITCH", environment);
        assert_eq!(read(Opens(true), Environment::Development), Ok(true));
        assert_eq!(read(Opens(false), Environment::Production), Ok(false));
        let refused = read(Opens(true), Environment::Production).expect_err("open");
        assert_eq!(
            refused.to_string(),
            "SOME_SWITCH=true is not for ENVIRONMENT=production"
        );
    }

    #[test]
    fn production_refuses_development_passwords() {
        for (url, wanted) in [
            ("postgres://order:development-order@db/order", false),
            ("amqp://order:development-order@broker:5672/holdfast", false),
            ("postgres://order:kept-elsewhere@db/order", true),
            ("postgres://order@db/order", true),
            ("not a url", true),
        ] {
            let checked = Environment::Production.refuse_development_password("DATABASE_URL", url);
            assert_eq!(checked.is_ok(), wanted, "{url}");
            if let Err(refused) = checked {
                let said = refused.to_string();
                assert!(said.contains("DATABASE_URL"), "{said}");
                assert!(!said.contains("order"), "no password is told: {said}");
            }
            let elsewhere =
                Environment::Development.refuse_development_password("DATABASE_URL", url);
            assert_eq!(elsewhere, Ok(()), "{url}");
        }
    }

    #[test]
    fn only_a_loopback_address_is_closed_to_the_network() {
        for (published, wanted) in [
            ("127.0.0.1:8080", true),
            ("127.8.0.1:8080", true),
            ("localhost:8080", true),
            ("[::1]:8080", true),
            ("0.0.0.0:8080", false),
            ("[::]:8080", false),
            ("192.168.1.4:8080", false),
            ("8080", false),
            (":8080", false),
            ("", false),
            ("example.com:8080", false),
        ] {
            assert_eq!(is_loopback(published), wanted, "{published}");
        }
    }
}
