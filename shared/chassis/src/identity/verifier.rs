//! The verification of tokens against the keys of a JWKS.

use std::sync::Arc;

use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use tokio_util::sync::CancellationToken;

use super::{
    Principal, ed25519,
    keys::{Keys, NoKey},
};
use crate::{http::Problem, settings::IdentitySettings};

/// The tolerance for a token's times, in seconds: clocks differ.
const LEEWAY_SECONDS: u64 = 30;

/// A verifier of tokens. Clones share the keys.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    validation: Validation,
    keys: Keys,
}

/// Identity settings that cannot work. Correct them.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// The file is missing, or is not a valid key set.
    #[error("JWKS {source_name}: {reason}")]
    Jwks {
        /// The file or URL.
        source_name: String,
        /// The reason, for the operator.
        reason: String,
    },
    /// The set contains the development key, whose private half is public.
    #[error(
        "JWKS {0} contains the development key, whose private half is public: it is not for ENVIRONMENT=production"
    )]
    DevelopmentKey(String),
}

impl Verifier {
    /// Returns a verifier. A key set in a file is loaded now; one behind a URL by [`Verifier::keep_fresh`], or for the
    /// first token.
    pub fn new(settings: &IdentitySettings) -> Result<Self, ConfigurationError> {
        ed25519::install();
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&settings.token_issuer]);
        validation.set_audience(&[&settings.token_audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY_SECONDS;
        let keys = Keys::new(settings)?;
        Ok(Self(Arc::new(Inner { validation, keys })))
    }

    /// Loads the key set again whenever it reaches the age in the settings, until `shutdown`. Without this, a key that
    /// was removed from the set stays trusted until the last load is too old.
    pub async fn keep_fresh(self, shutdown: CancellationToken) {
        self.0.keys.keep_fresh(shutdown).await;
    }

    /// Returns whether this verifier accepts tokens of the development key, which everybody who has the repository can
    /// sign.
    pub(crate) fn believes_the_development_key(&self) -> bool {
        self.0.keys.have_the_development_key()
    }

    /// Returns the bearer of a token; a [`Problem`] if the token is not valid (401), or the keys cannot be loaded
    /// (503). Waits for a load of the keys if the token's key is unknown. Cancel safe.
    pub async fn verify(&self, token: &str) -> Result<Principal, Problem> {
        let untrusted = |why: &str| Problem::invalid_token(why);
        let header = jsonwebtoken::decode_header(token)
            .map_err(|_| untrusted("the token is not a valid JWT"))?;
        if header.alg != Algorithm::EdDSA {
            return Err(untrusted("the token is not signed with EdDSA"));
        }
        let id = header
            .kid
            .ok_or_else(|| untrusted("the token does not say which key signed it"))?;
        let key = self.0.keys.find(&id).await.map_err(|none| match none {
            NoKey::Unknown => untrusted("the token is signed with an unknown key"),
            NoKey::NotNow => Problem::unavailable("the keys that sign tokens cannot be loaded"),
        })?;
        match jsonwebtoken::decode::<Principal>(token, &key, &self.0.validation) {
            Ok(token) => Ok(token.claims),
            Err(error) => Err(untrusted(match error.kind() {
                ErrorKind::ExpiredSignature => "the token has expired",
                ErrorKind::ImmatureSignature => "the token is not valid yet",
                ErrorKind::InvalidIssuer | ErrorKind::InvalidAudience => {
                    "the token is for another issuer or audience"
                }
                ErrorKind::InvalidSignature => "the token's signature is wrong",
                _ => "the token's claims are not valid",
            })),
        }
    }
}
