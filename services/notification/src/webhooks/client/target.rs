//! The URLs that an endpoint may have.

use chassis::settings::{Environment, NotForProduction};
use reqwest::Url;

use crate::webhooks::config::WebhookSettings;

/// The exceptions that the settings allow. Production refuses them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) allow_http: bool,
    pub(crate) allow_private: bool,
}

impl Policy {
    /// Returns the exceptions that the settings allow. Fails in production if there are any.
    pub(crate) fn of(
        settings: &WebhookSettings,
        environment: Environment,
    ) -> Result<Self, NotForProduction> {
        let (http, private) = (settings.webhook_allow_http, settings.webhook_allow_private);
        Ok(Self {
            allow_http: http.is_open("WEBHOOK_ALLOW_HTTP", environment)?,
            allow_private: private.is_open("WEBHOOK_ALLOW_PRIVATE", environment)?,
        })
    }
}

/// The longest URL, in bytes.
const LONGEST: usize = 2000;

/// A URL that webhooks may go to by its text; its host is still to be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target(Url);

/// The reason for which a URL is refused, in words for its owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidTarget {
    #[error("the URL must have at most {LONGEST} bytes, not {0}")]
    TooLong(usize),
    #[error("is not a valid URL: {0}")]
    NoUrl(String),
    #[error("the URL must begin with https://, not {0}://")]
    Scheme(String),
    #[error("the URL must not have a user or a password in it: check the signature instead")]
    Credentials,
    #[error("the URL must not have a fragment (#…): it is never sent")]
    Fragment,
    #[error("the URL's port must not be 0")]
    Port,
}

impl Target {
    /// Parses a URL. Every spelling of an IPv4 address (`0x7f.1`, `2130706433`) becomes the usual one here, as it would
    /// when the client connects.
    pub(super) fn parse(text: &str, policy: Policy) -> Result<Self, InvalidTarget> {
        if text.len() > LONGEST {
            return Err(InvalidTarget::TooLong(text.len()));
        }
        let url = Url::parse(text).map_err(|error| InvalidTarget::NoUrl(error.to_string()))?;
        let is_allowed = match url.scheme() {
            "https" => true,
            "http" => policy.allow_http,
            _ => false,
        };
        if !is_allowed {
            return Err(InvalidTarget::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidTarget::Credentials);
        }
        if url.fragment().is_some() {
            return Err(InvalidTarget::Fragment);
        }
        if url.port() == Some(0) {
            return Err(InvalidTarget::Port);
        }
        Ok(Self(url))
    }

    pub(super) fn url(&self) -> &Url {
        &self.0
    }

    /// Returns the host's name or address; an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.0.host_str().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn port(&self) -> u16 {
        self.0.port_or_known_default().unwrap_or(443)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Policy = Policy {
        allow_http: false,
        allow_private: false,
    };

    #[test]
    fn other_urls_than_https_are_refused_with_the_reason() {
        let long = format!("https://example.com/{}", "a".repeat(LONGEST));
        for (url, why) in [
            ("http://example.com/", "https://, not http://"),
            ("ftp://example.com/", "https://, not ftp://"),
            ("file:///etc/passwd", "https://, not file://"),
            ("https://user@example.com/", "user or a password"),
            ("https://:secret@example.com/", "user or a password"),
            ("https://example.com/#top", "fragment"),
            ("https://example.com:0/", "port"),
            ("https://", "not a valid URL"),
            ("example.com/hook", "not a valid URL"),
            ("https://[::1%25eth0]/", "not a valid URL"),
            ("https://1.2.3.4.5/", "not a valid URL"),
            (long.as_str(), "2000 bytes"),
        ] {
            let error = Target::parse(url, STRICT).expect_err(url).to_string();
            assert!(error.contains(why), "{url}: {error}");
        }
    }

    #[test]
    fn each_spelling_of_an_address_becomes_the_usual_one() {
        for spelling in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://127.0.0.1./",
            "https://１２７.0.0.1/",
            "https://%31%32%37.0.0.1/",
        ] {
            let target = Target::parse(spelling, STRICT).expect(spelling);
            assert_eq!(target.host(), "127.0.0.1", "{spelling}");
        }
        let target = Target::parse("https://[0:0::1]:8443/hook", STRICT).expect("a URL");
        assert_eq!((target.host(), target.port()), ("::1", 8443));
    }

    #[test]
    fn http_is_accepted_if_the_policy_allows_it() {
        let policy = Policy {
            allow_http: true,
            ..STRICT
        };
        let target = Target::parse("http://example.com/hook", policy).expect("allowed");
        assert_eq!((target.host(), target.port()), ("example.com", 80));
    }
}
