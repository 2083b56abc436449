//! Verifies tokens against a JWKS.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use holdfast::deadline::Deadline;
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, JwkSet},
};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{Principal, development::is_development_key, ed25519};
use crate::{http::Problem, settings::IdentitySettings};

/// A key set is loaded again for a key that it lacks, but not more often than this.
const RELOAD: Duration = Duration::from_secs(30);
/// How long loading a key set may take.
const LOAD: Duration = Duration::from_secs(3);
/// How far a token's times may be off: clocks differ.
const LEEWAY_SECONDS: u64 = 30;

/// Verifies tokens. Clones share the keys.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    source: Source,
    production: bool,
    validation: Validation,
    /// By key id. A std lock: held for a look-up, never across an await.
    keys: RwLock<HashMap<String, DecodingKey>>,
    /// When the set was loaded last, and the lock that lets one load at a time.
    loaded: tokio::sync::Mutex<Option<Instant>>,
}

enum Source {
    File(String),
    Url {
        client: reqwest::Client,
        url: String,
    },
}

/// The identity settings cannot work. Fix them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file is not there, or is no key set.
    #[error("JWKS {source_name}: {reason}")]
    Jwks {
        /// The file or URL.
        source_name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The development key is public.
    #[error(
        "JWKS {0} contains the development key, whose private half is public: it is not for ENVIRONMENT=production"
    )]
    DevelopmentKey(String),
}

impl Verifier {
    /// A verifier. A key set in a file is loaded now; one behind a URL when the first token asks for it.
    pub fn new(settings: &IdentitySettings) -> Result<Self, ConfigurationError> {
        ed25519::install();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&settings.token_issuer]);
        validation.set_audience(&[&settings.token_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;

        let source =
            if settings.jwks.starts_with("http://") || settings.jwks.starts_with("https://") {
                let client = reqwest::Client::builder()
                    .connect_timeout(LOAD)
                    .build()
                    .map_err(|error| ConfigurationError::Jwks {
                        source_name: settings.jwks.clone(),
                        reason: error.to_string(),
                    })?;
                Source::Url {
                    client,
                    url: settings.jwks.clone(),
                }
            } else {
                Source::File(settings.jwks.clone())
            };
        let inner = Inner {
            source,
            production: settings.environment == "production",
            validation,
            keys: RwLock::default(),
            loaded: tokio::sync::Mutex::new(None),
        };
        if let Source::File(path) = &inner.source {
            let text = std::fs::read_to_string(path).map_err(|error| inner.wrong(error))?;
            inner.take(&text)?;
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Who bears this token; a [`Problem`] if it is not to be believed.
    pub async fn verify(&self, token: &str) -> Result<Principal, Problem> {
        let untrusted = |why: &str| Problem::unauthenticated(why);
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| untrusted("that is no token of ours"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(untrusted("the token is not signed with EdDSA"));
        }
        let id = header
            .kid
            .ok_or_else(|| untrusted("the token does not say which key signed it"))?;
        let key = if let Some(key) = self.0.key(&id) {
            key
        } else {
            self.0.reload().await?;
            self.0
                .key(&id)
                .ok_or_else(|| untrusted("the token is signed with a key that we do not know"))?
        };
        match jsonwebtoken::decode::<Principal>(token, &key, &self.0.validation) {
            Ok(token) => Ok(token.claims),
            Err(error) => Err(untrusted(match error.kind() {
                ErrorKind::ExpiredSignature => "the token has expired",
                ErrorKind::ImmatureSignature => "the token is not valid yet",
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => {
                    "the token is meant for somebody else"
                }
                ErrorKind::InvalidSignature => "the token's signature is wrong",
                _ => "the token's claims are not ours",
            })),
        }
    }
}

impl Inner {
    fn key(&self, id: &str) -> Option<DecodingKey> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Loads the key set again, for a key that was added to it since.
    async fn reload(&self) -> Result<(), Problem> {
        let mut loaded = self.loaded.lock().await;
        if loaded.is_some_and(|at| at.elapsed() < RELOAD) {
            return Ok(());
        }
        let text = match &self.source {
            Source::File(path) => tokio::fs::read_to_string(path)
                .await
                .map_err(|e| e.to_string()),
            Source::Url { client, url } => {
                let load = async {
                    client
                        .get(url)
                        .send()
                        .await?
                        .error_for_status()?
                        .text()
                        .await
                };
                match Deadline::after(LOAD).run(load).await {
                    Ok(text) => text.map_err(|e| e.to_string()),
                    Err(exceeded) => Err(exceeded.to_string()),
                }
            }
        };
        let taken = text
            .map_err(|reason| self.wrong(reason))
            .and_then(|text| self.take(&text));
        match taken {
            Ok(()) => {
                // Only now: a request that was given up half way must not keep others from loading it.
                *loaded = Some(Instant::now());
                Ok(())
            }
            Err(error) => {
                warn!(%error, "cannot load the key set");
                Err(Problem::unavailable(
                    "the keys that sign tokens cannot be loaded",
                ))
            }
        }
    }

    /// Replaces the keys by those of a key set.
    fn take(&self, text: &str) -> Result<(), ConfigurationError> {
        let set: JwkSet = serde_json::from_str(text).map_err(|error| self.wrong(error))?;
        let mut keys = HashMap::new();
        for jwk in &set.keys {
            let (Some(id), AlgorithmParameters::OctetKeyPair(pair)) =
                (&jwk.common.key_id, &jwk.algorithm)
            else {
                continue; // a key that no token of ours can name, or of another kind
            };
            if self.production && is_development_key(&pair.x) {
                return Err(ConfigurationError::DevelopmentKey(self.name().to_owned()));
            }
            keys.insert(
                id.clone(),
                DecodingKey::from_jwk(jwk).map_err(|error| self.wrong(error))?,
            );
        }
        if keys.is_empty() {
            return Err(self.wrong("it has no Ed25519 key with a kid"));
        }
        info!(
            keys = keys.len(),
            source = self.name(),
            "loaded the keys that sign tokens"
        );
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
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
