//! Names to addresses, and none of the addresses one to which nothing must go.
//!
//! Who checks a name and then connects to the *name* asks twice, and may get two answers: DNS rebinding. So the HTTP client
//! has this resolver and no other. What it answers was checked, and is what is connected to.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{address, target::Policy};

/// The addresses of a name, some time.
pub type Lookups = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Who knows the addresses of a name. The operating system, but for tests.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of `name`.
    fn lookup(&self, name: &str) -> Lookups;
}

/// The operating system's resolver.
#[derive(Clone, Copy, Debug)]
pub(crate) struct System;

impl Lookup for System {
    fn lookup(&self, name: &str) -> Lookups {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Answers only addresses that were checked.
#[derive(Clone)]
pub(super) struct Checked {
    lookup: Arc<dyn Lookup>,
    policy: Policy,
}

/// An address to which nothing is sent. Sending again will not help, until the name has another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forbidden {
    address: IpAddr,
    what: &'static str,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the host is at {}, {}: only public addresses are sent to",
            self.address, self.what
        )
    }
}

impl std::error::Error for Forbidden {}

/// Why a host has no address for us.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// It has one to which nothing is sent.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Nobody knows it. That may change.
    #[error("the host cannot be looked up: {0}")]
    Unknown(#[from] io::Error),
    /// It is known, and has no address. That may change.
    #[error("the host has no address")]
    Nowhere,
}

impl Checked {
    pub(super) fn new(lookup: Arc<dyn Lookup>, policy: Policy) -> Self {
        Self { lookup, policy }
    }

    /// The addresses of a host, which is a name or an address. One that must not be among them refuses all: a name with a
    /// public and a private address is a mistake, or an attempt.
    pub(super) async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.lookup.lookup(host).await?,
        };
        for address in &addresses {
            self.check(*address)?;
        }
        if addresses.is_empty() {
            return Err(Error::Nowhere);
        }
        Ok(addresses)
    }

    /// Whether something may be sent to an address.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        match address::objection(address) {
            Some(what) if !self.policy.allow_private => Err(Forbidden { address, what }),
            _ => Ok(()),
        }
    }
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = match names.addresses(name.as_str()).await {
                Ok(addresses) => addresses,
                Err(Error::Forbidden(forbidden)) => return Err(forbidden.into()),
                Err(error) => return Err(error.into()),
            };
            // The client puts the port of the URL in place of 0.
            let sockets = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Vec<&'static str>);

    impl Lookup for Says {
        fn lookup(&self, _: &str) -> Lookups {
            let addresses = self
                .0
                .iter()
                .map(|address| address.parse().expect("an address"))
                .collect();
            Box::pin(std::future::ready(Ok(addresses)))
        }
    }

    async fn looked_up(says: &[&'static str], host: &str, allow_private: bool) -> String {
        let policy = Policy {
            allow_http: false,
            allow_private,
        };
        let names = Checked::new(Arc::new(Says(says.to_vec())), policy);
        match names.addresses(host).await {
            Ok(addresses) => format!("{addresses:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn one_private_address_refuses_the_name() {
        let public = looked_up(&["8.8.8.8", "2606:4700::1"], "both.example", false).await;
        assert_eq!(public, "[8.8.8.8, 2606:4700::1]");
        for says in [&["127.0.0.1"][..], &["8.8.8.8", "10.0.0.1"]] {
            let refused = looked_up(says, "sly.example", false).await;
            assert!(refused.contains("only public addresses"), "{refused}");
            let allowed = looked_up(says, "sly.example", true).await;
            assert!(allowed.starts_with('['), "{allowed}");
        }
        let nowhere = looked_up(&[], "empty.example", true).await;
        assert_eq!(nowhere, "the host has no address");
    }

    #[tokio::test]
    async fn an_address_is_checked_without_asking_anybody() {
        let literal = looked_up(&["8.8.8.8"], "::1", false).await;
        assert!(literal.contains("::1, a loopback address"), "{literal}");
    }
}
