//! Signatures by the Standard Webhooks specification, symmetric: `v1,` and HMAC-SHA256 of `ID.TIMESTAMP.BODY` in
//! base64.
//!
//! The specification's own crate, `standardwebhooks`, does the same in as many lines, with a base64 and an HMAC that
//! nothing else here uses. Its test vector is tested here.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{
    hmac,
    rand::{SecureRandom, SystemRandom},
};
use uuid::Uuid;

/// The length of a secret, in bytes: as long as SHA-256's output, since more would add nothing. The specification wants
/// 24 to 64.
const LENGTH: usize = 32;

/// A secret that signs the webhooks to an endpoint.
pub(crate) struct Secret([u8; LENGTH]);

/// The operating system returned no random numbers. Try again later.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system has no random numbers")]
pub(crate) struct NoRandomness;

impl Secret {
    /// Generates a new secret.
    pub(crate) fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = [0; LENGTH];
        let random = SystemRandom::new();
        random.fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the secret as its owner is shown it, once.
    pub(crate) fn reveal(&self) -> String {
        format!("whsec_{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Returns the header `webhook-signature`: a signature by each of the secrets, so that a receiver needs only one of
/// them.
pub(super) fn header<'a>(
    secrets: impl Iterator<Item = &'a Vec<u8>>,
    id: Uuid,
    timestamp: i64,
    body: &str,
) -> String {
    let content = format!("{id}.{timestamp}.{body}");
    let signatures: Vec<String> = secrets.map(|secret| sign(secret, &content)).collect();
    signatures.join(" ")
}

fn sign(secret: &[u8], content: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    let signature = hmac::sign(&key, content.as_bytes());
    format!("v1,{}", STANDARD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From the tests of the specification's own library.
    #[test]
    fn signature_is_the_one_of_the_specifications_vector() {
        let secret = STANDARD
            .decode("C2FVsBQIhrscChlQIMV+b5sSYspob7oD")
            .expect("base64");
        let body = r#"{"email":"test@example.com","username":"test_user"}"#;
        assert_eq!(
            sign(
                &secret,
                &format!("msg_27UH4WbU6Z5A5EzD8u03UvzRbpk.1649367553.{body}")
            ),
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="
        );
    }

    #[test]
    fn secret_is_random_and_not_printed() {
        let (one, other) = (Secret::generate(), Secret::generate());
        let (one, other) = (one.expect("random"), other.expect("random"));
        assert_ne!(one.bytes(), other.bytes());
        let shown = one.reveal();
        let encoded = shown.strip_prefix("whsec_").expect("the prefix");
        assert_eq!(STANDARD.decode(encoded).as_deref(), Ok(one.bytes()));
        assert_eq!(format!("{one:?}"), "Secret(..)");
    }

    #[test]
    fn two_secrets_make_two_signatures() {
        let secrets = [vec![1; 32], vec![2; 32]];
        let both = header(secrets.iter(), Uuid::nil(), 1, "{}");
        let each = secrets
            .each_ref()
            .map(|secret| header([secret].into_iter(), Uuid::nil(), 1, "{}"));
        assert_eq!(both, each.join(" "));
    }
}
