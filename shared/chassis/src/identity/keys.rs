//! The keys that verify tokens: a key set (JWKS) in a file or behind a URL, loaded again and again.
//!
//! # Guarantee
//!
//! - A key that was removed from the set is trusted for at most `JWKS_REFRESH_SECONDS` and one load longer.
//! - While the set cannot be loaded, the keys of the last load are trusted for `JWKS_MAX_AGE_SECONDS`; after that no
//!   token is, and requests are answered 503. The bound is a choice: a shorter one makes an outage of the issuer one of
//!   ours, a longer one lets an attacker who can cut us off from the issuer use a withdrawn key for longer.
//! - A known key is found without waiting, whatever the URL does.
//! - One load is under way at a time, and it belongs to no request: all waiters share it. A key that the set lacks
//!   begins a load at most once in [`RELOAD`], and at most once in [`RETRY`] after a failure; at most [`WAITERS`]
//!   requests wait for it.
//!
//! # Not guaranteed
//!
//! An empty key set is taken for a mistake and changes nothing: to withdraw the only key, replace it by another one.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use holdfast::{backoff::pause, deadline::Deadline};
use jsonwebtoken::{
    DecodingKey,
    jwk::{AlgorithmParameters, JwkSet},
};
use tokio::{
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{ConfigurationError, development::is_development_key};
use crate::settings::{Environment, IdentitySettings};

/// The shortest time between two loads for keys that the set lacks.
const RELOAD: Duration = Duration::from_secs(30);
/// The time for which a failed load is remembered. No load begins meanwhile.
const RETRY: Duration = Duration::from_secs(5);
/// The time limit of a load.
const LOAD: Duration = Duration::from_secs(3);
/// The most requests that may wait for a load. Others are answered 503 at once: waiting requests hold places of the
/// server, and a client that invents keys could take all of them.
const WAITERS: usize = 8;
/// The largest key set, in bytes.
const LARGEST: usize = 256 * 1024;

/// The keys. Clones share them.
#[derive(Clone)]
pub(super) struct Keys(Arc<Inner>);

/// A key that could not be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// The set lacks the key: the token is rejected.
    Unknown,
    /// The set cannot be loaded, or is being loaded for others: repeat the request later.
    NotNow,
}

struct Inner {
    source: Source,
    environment: Environment,
    refresh: Duration,
    max_age: Duration,
    /// The last successful load. A std lock: held for a look-up, never across an await.
    known: RwLock<Known>,
    /// The state of the last load. Invariant: a task that set it to `UnderWay` sets it to `Over`, even if it panics.
    load: watch::Sender<Load>,
    waiters: Semaphore,
}

/// The result of the last successful load.
#[derive(Default)]
struct Known {
    /// The keys, by key id.
    keys: HashMap<String, DecodingKey>,
    /// The time of the load; `None` before the first one.
    loaded: Option<Instant>,
    has_development_key: bool,
}

#[derive(Clone, Copy, Debug)]
enum Load {
    Never,
    UnderWay,
    Over { at: Instant, succeeded: bool },
}

enum Source {
    File(String),
    Url {
        client: reqwest::Client,
        url: String,
    },
}

impl Keys {
    /// Returns the keys of a set. One in a file is loaded now; one behind a URL by [`Keys::keep_fresh`], or for the
    /// first token.
    pub(super) fn new(settings: &IdentitySettings) -> Result<Self, ConfigurationError> {
        let jwks = &settings.jwks;
        let source = if jwks.starts_with("http://") || jwks.starts_with("https://") {
            let client = reqwest::Client::builder()
                .connect_timeout(LOAD)
                .build()
                .map_err(|error| ConfigurationError::Jwks {
                    source_name: jwks.clone(),
                    reason: error.to_string(),
                })?;
            Source::Url {
                client,
                url: jwks.clone(),
            }
        } else {
            Source::File(jwks.clone())
        };
        let inner = Inner {
            source,
            environment: Environment::of(settings),
            refresh: Duration::from_secs(settings.jwks_refresh_seconds),
            max_age: Duration::from_secs(settings.jwks_max_age_seconds),
            known: RwLock::default(),
            load: watch::Sender::new(Load::Never),
            waiters: Semaphore::new(WAITERS),
        };
        if let Source::File(path) = &inner.source {
            let text = std::fs::read_to_string(path).map_err(|error| inner.wrong(error))?;
            inner.take(&text)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Returns whether the development key was in the set when it was last loaded.
    pub(super) fn have_the_development_key(&self) -> bool {
        self.0.known(|known| known.has_development_key)
    }

    /// Finds a key: at once if it is known, else after a load. Cancel safe: the load goes on.
    pub(super) async fn find(&self, id: &str) -> Result<DecodingKey, NoKey> {
        if let Some(key) = self.0.get(id) {
            return Ok(key);
        }
        // Subscribed before the load begins, so that its end is not missed.
        let mut load = self.0.load.subscribe();
        self.begin(|succeeded| if succeeded { RELOAD } else { RETRY });
        let now = *load.borrow_and_update();
        let over = match now {
            Load::UnderWay => {
                let _place = self.0.waiters.try_acquire().map_err(|_| NoKey::NotNow)?;
                let over = load.wait_for(|load| !matches!(load, Load::UnderWay)).await;
                *over.map_err(|_| NoKey::NotNow)?
            }
            now => now,
        };
        match over {
            // An earlier load may have ended between the look-up and the subscription.
            Load::Over {
                succeeded: true, ..
            } => self.0.get(id).ok_or(NoKey::Unknown),
            _ => Err(NoKey::NotNow),
        }
    }

    /// Loads the set again whenever it reaches the age in the settings, until `shutdown`.
    pub(super) async fn keep_fresh(&self, shutdown: CancellationToken) {
        let mut load = self.0.load.subscribe();
        loop {
            let wait = self.0.until_refresh(*load.borrow_and_update());
            if shutdown.run_until_cancelled(pause(wait)).await.is_none() {
                return;
            }
            self.begin(|_| Duration::ZERO);
            let over = load.wait_for(|load| !matches!(load, Load::UnderWay));
            if shutdown.run_until_cancelled(over).await.is_none() {
                return;
            }
        }
    }

    /// Begins a load, unless one is under way or the last one ended too recently. `pause` is the time after it, given
    /// whether it succeeded.
    fn begin(&self, pause: impl FnOnce(bool) -> Duration) {
        let begun = self.0.load.send_if_modified(|load| {
            let begins = match *load {
                Load::Never => true,
                Load::UnderWay => false,
                Load::Over { at, succeeded } => at.elapsed() >= pause(succeeded),
            };
            if begins {
                *load = Load::UnderWay;
            }
            begins
        });
        if begun {
            let running = Running {
                inner: Arc::clone(&self.0),
                succeeded: false,
            };
            // A task of its own: a request that is dropped half way must not end a load that others wait for.
            tokio::spawn(async move {
                let succeeded = running.inner.load().await;
                running.end(succeeded);
            });
        }
    }
}

/// A load that is under way. Dropping it marks the load as over.
struct Running {
    inner: Arc<Inner>,
    succeeded: bool,
}

impl Running {
    fn end(mut self, succeeded: bool) {
        self.succeeded = succeeded;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.load.send_replace(Load::Over {
            at: Instant::now(),
            succeeded: self.succeeded,
        });
    }
}

impl Inner {
    fn known<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        read(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns a known key, unless the last load is too old to be trusted.
    fn get(&self, id: &str) -> Option<DecodingKey> {
        self.known(|known| {
            let is_fresh = known.loaded?.elapsed() <= self.max_age;
            is_fresh.then(|| known.keys.get(id).cloned()).flatten()
        })
    }

    /// Returns the time until the next load is due.
    fn until_refresh(&self, last: Load) -> Duration {
        if let Load::Over {
            at,
            succeeded: false,
        } = last
        {
            return RETRY.saturating_sub(at.elapsed());
        }
        let age = self.known(|known| known.loaded.map(|at| at.elapsed()));
        age.map_or(Duration::ZERO, |age| self.refresh.saturating_sub(age))
    }

    /// Loads the set; returns whether that succeeded.
    async fn load(&self) -> bool {
        let text = match &self.source {
            Source::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|error| error.to_string()),
            Source::Url { client, url } => {
                match Deadline::after(LOAD).run(fetch(client, url)).await {
                    Ok(text) => text,
                    Err(exceeded) => Err(exceeded.to_string()),
                }
            }
        };
        let taken = text
            .map_err(|reason| self.wrong(reason))
            .and_then(|text| self.take(&text));
        if let Err(error) = &taken {
            let age = self.known(|known| known.loaded.map(|at| at.elapsed()));
            warn!(%error, ?age, max_age = ?self.max_age, "cannot load the key set; the keys of the last load are trusted until they are too old");
        }
        taken.is_ok()
    }

    /// Replaces the keys by those of a key set.
    fn take(&self, text: &str) -> Result<(), ConfigurationError> {
        let set: JwkSet = serde_json::from_str(text).map_err(|error| self.wrong(error))?;
        let mut keys = HashMap::new();
        let mut has_development_key = false;
        for jwk in &set.keys {
            let (Some(id), AlgorithmParameters::OctetKeyPair(pair)) =
                (&jwk.common.key_id, &jwk.algorithm)
            else {
                continue; // a key without an id, which no token can name, or of another kind
            };
            if is_development_key(&pair.x) {
                if self.environment == Environment::Production {
                    return Err(ConfigurationError::DevelopmentKey(self.name().to_owned()));
                }
                has_development_key = true;
            }
            keys.insert(
                id.clone(),
                DecodingKey::from_jwk(jwk).map_err(|error| self.wrong(error))?,
            );
        }
        if keys.is_empty() {
            return Err(self.wrong("it has no Ed25519 key with a kid"));
        }
        let mut ids: Vec<&String> = keys.keys().collect();
        ids.sort_unstable();
        let is_news = self.known(|known| {
            known.keys.len() != keys.len() || ids.iter().any(|id| !known.keys.contains_key(*id))
        });
        if is_news {
            info!(keys = ?ids, source = self.name(), "loaded the keys that sign tokens");
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known {
            keys,
            loaded: Some(Instant::now()),
            has_development_key,
        };
        Ok(())
    }

    fn name(&self) -> &str {
        match &self.source {
            Source::File(path) => path,
            Source::Url { url, .. } => url,
        }
    }

    fn wrong(&self, reason: impl ToString) -> ConfigurationError {
        ConfigurationError::Jwks {
            source_name: self.name().to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// Fetches a key set of at most [`LARGEST`] bytes.
async fn fetch(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let answer = client.get(url).send().await;
    let answer = answer.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.map_err(|error| error.to_string())?;
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
        body.extend_from_slice(&chunk);
        if body.len() > LARGEST {
            return Err(format!("it has more than {LARGEST} bytes"));
        }
    }
    String::from_utf8(body).map_err(|error| error.to_string())
}
