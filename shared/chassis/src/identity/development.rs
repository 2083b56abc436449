//! The development key: everybody who has the repository can sign with it.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, get_current_timestamp,
    jwk::{AlgorithmParameters, JwkSet},
};
use serde::Serialize;

use super::{Principal, ed25519};

const PRIVATE: &str = include_str!("../../../../deploy/development/token-key.pem");
const PUBLIC: &str = include_str!("../../../../deploy/development/jwks.json");
const ID: &str = "holdfast-development";

/// The key that signs tokens for development and tests.
pub struct DevelopmentKey(EncodingKey);

/// A development key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKey {
    /// Production must not accept this key's tokens, so nothing there signs with it.
    #[error("the development key is not for ENVIRONMENT=production")]
    Production,
    /// The file in the repository is damaged.
    #[error("the development key cannot be read: {0}")]
    Unreadable(String),
}

#[derive(Serialize)]
struct Claims<'a> {
    #[serde(flatten)]
    principal: &'a Principal,
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl DevelopmentKey {
    /// Loads the key. Fails in production.
    pub fn load(environment: &str) -> Result<Self, InvalidKey> {
        if environment == "production" {
            return Err(InvalidKey::Production);
        }
        ed25519::install();
        let base64: String = PRIVATE
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let der = BASE64_STANDARD
            .decode(base64)
            .map_err(|e| InvalidKey::Unreadable(e.to_string()))?;
        Ok(Self(EncodingKey::from_ed_der(&der)))
    }

    /// Returns a token for `principal` that is valid for `lifetime` from now.
    pub fn sign(
        &self,
        principal: &Principal,
        issuer: &str,
        audience: &str,
        lifetime: Duration,
    ) -> Result<String, InvalidKey> {
        let now = get_current_timestamp();
        let exp = now.saturating_add(lifetime.as_secs());
        let claims = Claims {
            principal,
            iss: issuer,
            aud: audience,
            iat: now,
            nbf: now,
            exp,
        };
        let header = Header {
            kid: Some(ID.to_owned()),
            ..Header::new(Algorithm::EdDSA)
        };
        jsonwebtoken::encode(&header, &claims, &self.0)
            .map_err(|e| InvalidKey::Unreadable(e.to_string()))
    }
}

/// Returns whether `x` is the public half of a development key, under any key id.
pub(super) fn is_development_key(x: &str) -> bool {
    // Invariant: a file of this repository, which a test reads. If it were unreadable, every key would count as one.
    serde_json::from_str::<JwkSet>(PUBLIC).map_or(true, |set| {
        set.keys.iter().any(
            |jwk| matches!(&jwk.algorithm, AlgorithmParameters::OctetKeyPair(pair) if pair.x == x),
        )
    })
}
