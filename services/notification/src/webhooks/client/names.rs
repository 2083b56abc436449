//! Resolves names, and returns only addresses that webhooks may go to.
//!
//! A sender that checks a name and then connects to the *name* looks it up twice, and may get two answers: DNS
//! rebinding. So the HTTP client has this resolver and no other, and connects to the addresses that were checked.
//!
//! The result of a look-up is not told outside: a customer who may register endpoints could otherwise map the names and
//! addresses of the service's own network. An unknown host, one without an address and one with a private address are
//! [`REFUSED`] in the same words.
//!
//! The operating system looks names up on threads that cannot be stopped. So a look-up keeps its place in [`Places`]
//! until it is over, even if its caller has stopped waiting: slow names take up no more threads than there are places.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use super::{address, target::Policy};

/// The message about a host that nothing is sent to, the same for every reason.
pub(crate) const REFUSED: &str = "its host cannot be used: webhooks go to hosts that everybody can look up, all of whose addresses are public";

/// The future of a look-up, which returns the addresses of a name.
pub type Lookups = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// A source of names' addresses: the operating system, except in tests.
pub trait Lookup: Send + Sync + 'static {
    /// Looks up all addresses of `name`.
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

/// The places for look-ups: a number in all, and a number for one owner.
#[derive(Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_one_owner: usize,
    /// The number of look-ups in flight, for owners with at least one. A std lock: never held across an await.
    taken: Arc<Mutex<HashMap<Option<String>, usize>>>,
}

/// The place of one look-up, until it is over.
struct Place {
    places: Places,
    owner: Option<String>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(all: usize, of_one_owner: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(all)),
            of_one_owner,
            taken: Arc::default(),
        }
    }

    /// Takes a place for an owner's look-up; `None` if all, or all of this owner's, are taken.
    fn try_take(&self, owner: Option<&str>) -> Option<Place> {
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let owner = owner.map(str::to_owned);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(owner.clone()).or_default();
        if *count >= self.of_one_owner {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place {
            places: self.clone(),
            owner,
            _permit: permit,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self
            .places
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.owner);
            }
        }
    }
}

/// A resolver that returns only checked addresses.
#[derive(Clone)]
pub(super) struct Checked {
    lookup: Arc<dyn Lookup>,
    policy: Policy,
    places: Places,
}

/// A refusal to send to a host. Trying again does not help until its name has other addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{REFUSED}")]
pub(super) struct Forbidden;

/// The reason for which a host has no address to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// Nothing may be sent to the host. Give up, or register another URL.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// All places for look-ups are taken. Try again later.
    #[error("too many hosts are being looked up")]
    Busy,
}

impl Checked {
    pub(super) fn new(lookup: Arc<dyn Lookup>, policy: Policy, places: Places) -> Self {
        Self {
            lookup,
            policy,
            places,
        }
    }

    /// Returns the addresses of a host, which is a name or an address. One forbidden address refuses all of them: a
    /// name with a public and a private address is a mistake, or an attack.
    ///
    /// If it is dropped, the look-up goes on, and keeps its place until it is over.
    pub(super) async fn addresses(
        &self,
        host: &str,
        owner: Option<&str>,
    ) -> Result<Vec<IpAddr>, Error> {
        let addresses = match host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.look_up(host, owner).await?,
        };
        for address in &addresses {
            self.check(*address)?;
        }
        if addresses.is_empty() {
            debug!(host, "the host of a webhook has no address");
            return Err(Forbidden.into());
        }
        Ok(addresses)
    }

    async fn look_up(&self, host: &str, owner: Option<&str>) -> Result<Vec<IpAddr>, Error> {
        let place = self.places.try_take(owner).ok_or(Error::Busy)?;
        let lookup = self.lookup.lookup(host);
        let running = tokio::spawn(async move {
            let found = lookup.await;
            drop(place);
            found
        });
        let found = running.await.map_err(io::Error::other).flatten();
        found.map_err(|error| {
            debug!(host, %error, "the host of a webhook cannot be looked up");
            Forbidden.into()
        })
    }

    /// Fails if nothing may be sent to an address.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), Forbidden> {
        match address::objection(address) {
            Some(what) if !self.policy.allow_private => {
                debug!(%address, what, "the host of a webhook has an address that nothing is sent to");
                Err(Forbidden)
            }
            _ => Ok(()),
        }
    }
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            let addresses = match names.addresses(name.as_str(), None).await {
                Ok(addresses) => addresses,
                Err(Error::Forbidden(forbidden)) => return Err(forbidden.into()),
                Err(error) => return Err(error.into()),
            };
            // The HTTP client replaces port 0 by the URL's.
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
        let names = Checked::new(Arc::new(Says(says.to_vec())), policy, Places::new(1, 1));
        match names.addresses(host, None).await {
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
            assert_eq!(refused, REFUSED);
            let allowed = looked_up(says, "sly.example", true).await;
            assert!(allowed.starts_with('['), "{allowed}");
        }
        let nowhere = looked_up(&[], "empty.example", true).await;
        assert_eq!(nowhere, REFUSED);
    }

    #[tokio::test]
    async fn literal_address_is_checked_without_a_look_up() {
        let literal = looked_up(&["8.8.8.8"], "::1", false).await;
        assert_eq!(literal, REFUSED);
    }

    /// A source that returns no address until it is given a permit.
    struct Slow(Arc<Semaphore>);

    impl Lookup for Slow {
        fn lookup(&self, _: &str) -> Lookups {
            let go_on = Arc::clone(&self.0);
            Box::pin(async move {
                let _go_on = go_on.acquire().await;
                Ok(vec!["8.8.8.8".parse().expect("an address")])
            })
        }
    }

    #[tokio::test]
    async fn abandoned_look_up_keeps_its_place_until_it_is_over() {
        let policy = Policy {
            allow_http: false,
            allow_private: false,
        };
        let go_on = Arc::new(Semaphore::new(0));
        let slow = Arc::new(Slow(Arc::clone(&go_on)));
        let names = Checked::new(slow, policy, Places::new(3, 2));
        let abandon = |owner| {
            let names = names.clone();
            async move {
                let look_up = names.addresses("slow.example", Some(owner));
                tokio::time::timeout(std::time::Duration::from_millis(20), look_up).await
            }
        };
        for _ in 0..2 {
            assert!(
                abandon("alice").await.is_err(),
                "it waits, and is abandoned"
            );
        }
        // One owner has two places, and all owners together have three.
        assert_eq!(abandon("alice").await, Ok(Err(Error::Busy)));
        assert!(abandon("bob").await.is_err(), "bob gets the third place");
        assert_eq!(abandon("carol").await, Ok(Err(Error::Busy)));
        go_on.add_permits(1);
        testkit::eventually("the places are free again", || async {
            match names.addresses("slow.example", Some("alice")).await {
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await;
    }
}
