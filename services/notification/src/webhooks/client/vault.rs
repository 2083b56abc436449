//! Webhook secrets at rest.
//!
//! **Problem.** The signer has to know a signing secret itself, so a hash of it will not do. Anyone who reads the
//! table, a backup of it or a replica's disk could sign as this service does, to every receiver.
//!
//! **Guarantee.** A secret is encrypted before it is stored (AES-256-GCM, with a fresh nonce each time), by a key that
//! is not in the database. The endpoint's id is the associated data: a sealed secret that was copied to another row
//! does not open there.
//!
//! **Keys.** The file has one key a line: an id, and 32 bytes in base64. The first key seals, every key opens. To
//! rotate, add the new key as the second line everywhere; then make it the first, and wait until the secrets of the old
//! key have been sealed anew; then remove the old one.
//!
//! **Failure modes.** If a key is missing from the file, or has another value there, the secrets that it sealed do not
//! open, and the log names the key. Webhooks are signed by the endpoint's other secret, if it has one that opens, and
//! wait otherwise. If a key is lost, so are the secrets that it sealed: rotate each of them; the new one signs at once.

use std::fmt;

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::STANDARD};
use chassis::settings::Environment;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};
use uuid::Uuid;

use super::signature::NoRandomness;
use crate::webhooks::{config::WebhookSettings, store::endpoints::Kept};

/// The key of `deploy/development`, which is public.
const DEVELOPMENT: &[u8; 32] = b"holdfast development webhook key";

/// The keys that seal and open secrets.
pub(crate) struct Vault {
    /// The keys, of which the first one seals. Never empty.
    keys: Vec<Key>,
    /// True if secrets are to be sealed. False while replicas run that cannot open sealed ones.
    seals: bool,
    random: SystemRandom,
}

struct Key {
    id: String,
    key: LessSafeKey,
}

/// A failure to open a secret: it signs nothing until the keys are repaired.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unopened {
    /// The key is not in the file. Put it back.
    #[error("it is sealed by the key {0:?}, which is not in WEBHOOK_KEYS_FILE")]
    NoKey(String),
    /// The key has another value than the one that sealed the secret, or the row was changed. Put the right key back.
    #[error(
        "the key {0:?} of WEBHOOK_KEYS_FILE does not open it: it has another value than the key that sealed it, or the row was changed"
    )]
    WrongKey(String),
    /// The stored text was not written by this module. Rotate the secret.
    #[error("it is not a valid sealed secret")]
    Malformed,
}

impl Vault {
    /// Reads the keys. Fails on a file without a valid key, and in production on the development key, whatever its id.
    pub(crate) fn open(
        settings: &WebhookSettings,
        environment: Environment,
    ) -> anyhow::Result<Self> {
        let file = &settings.webhook_keys_file;
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("WEBHOOK_KEYS_FILE {}", file.display()))?;
        let keys = keys(&text, environment)
            .with_context(|| format!("WEBHOOK_KEYS_FILE {}", file.display()))?;
        Ok(Self {
            keys,
            seals: settings.webhook_seal_secrets,
            random: SystemRandom::new(),
        })
    }

    /// Returns a secret in the form in which it is to be stored.
    pub(crate) fn keep(&self, endpoint: Uuid, secret: &[u8]) -> Result<Kept, NoRandomness> {
        if !self.seals {
            return Ok(Kept::plain(secret));
        }
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| NoRandomness)?;
        let key = &self.keys[0];
        let mut sealed = secret.to_vec();
        let aad = Aad::from(endpoint.into_bytes());
        key.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            // Invariant: it fails only for more bytes than fit into memory.
            .map_err(|_| NoRandomness)?;
        let bytes = [&nonce[..], &sealed].concat();
        Ok(Kept::sealed(format!(
            "{}:{}",
            key.id,
            STANDARD.encode(bytes)
        )))
    }

    /// Returns the secret from its stored form.
    pub(crate) fn reveal(&self, endpoint: Uuid, kept: &Kept) -> Result<Vec<u8>, Unopened> {
        // A plain secret was written by an older replica, after the sealed one.
        if !kept.plain.is_empty() {
            return Ok(kept.plain.clone());
        }
        let (id, encoded) = kept
            .sealed
            .as_deref()
            .and_then(|sealed| sealed.split_once(':'))
            .ok_or(Unopened::Malformed)?;
        let key = self.keys.iter().find(|key| key.id == id);
        let key = key.ok_or_else(|| Unopened::NoKey(id.to_owned()))?;
        let bytes = STANDARD.decode(encoded).map_err(|_| Unopened::Malformed)?;
        let (nonce, sealed) = bytes
            .split_at_checked(NONCE_LEN)
            .ok_or(Unopened::Malformed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Unopened::Malformed)?;
        let aad = Aad::from(endpoint.into_bytes());
        let mut sealed = sealed.to_vec();
        let secret = key
            .key
            .open_in_place(nonce, aad, &mut sealed)
            .map_err(|_| Unopened::WrongKey(id.to_owned()))?;
        Ok(secret.to_vec())
    }

    /// Returns true if a secret is stored in the form that [`Vault::keep`] would return now.
    pub(crate) fn is_settled(&self, kept: &Kept) -> bool {
        if self.seals {
            let by = kept
                .sealed
                .as_deref()
                .and_then(|sealed| sealed.split_once(':'));
            kept.plain.is_empty() && by.is_some_and(|(id, _)| id == self.keys[0].id)
        } else {
            !kept.plain.is_empty()
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<&str> = self.keys.iter().map(|key| key.id.as_str()).collect();
        f.debug_struct("Vault")
            .field("keys", &ids)
            .field("seals", &self.seals)
            .finish_non_exhaustive()
    }
}

/// Parses a file of keys. An error shows nothing of a key's value.
fn keys(text: &str, environment: Environment) -> anyhow::Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = key(line, environment).with_context(|| format!("line {}", n + 1))?;
        anyhow::ensure!(
            keys.iter().all(|known| known.id != key.id),
            "line {}: the id {:?} is used twice",
            n + 1,
            key.id
        );
        keys.push(key);
    }
    anyhow::ensure!(!keys.is_empty(), "the file has no key");
    Ok(keys)
}

fn key(line: &str, environment: Environment) -> anyhow::Result<Key> {
    let (id, encoded) = line
        .split_once(' ')
        .context("is not a valid key: write an id, a space, and 32 bytes in base64")?;
    let is_id = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    anyhow::ensure!(
        id.chars().all(is_id),
        "{id:?} is not a valid id of a key: write letters, digits, '-', '_' and '.'"
    );
    let bytes = STANDARD.decode(encoded.trim()).ok();
    let bytes: [u8; 32] = bytes
        .and_then(|bytes| bytes.try_into().ok())
        .with_context(|| format!("the key {id:?} is not valid: write 32 bytes in base64"))?;
    if bytes == *DEVELOPMENT {
        environment.refuse("the development key in WEBHOOK_KEYS_FILE")?;
    }
    let key = UnboundKey::new(&AES_256_GCM, &bytes)
        .map_err(|_| anyhow::anyhow!("the key {id:?} has a wrong length"))?;
    Ok(Key {
        id: id.to_owned(),
        key: LessSafeKey::new(key),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"what only the receiver and we know";

    /// Makes a vault with these keys: each is an id, and the byte that its key consists of.
    fn vault(seals: bool, keys_of: &[(&str, u8)]) -> Vault {
        let lines = keys_of.iter().map(|(id, byte)| line(id, &[*byte; 32]));
        let text = lines.collect::<Vec<_>>().join("\n");
        Vault {
            keys: keys(&text, Environment::Production).expect("keys"),
            seals,
            random: SystemRandom::new(),
        }
    }

    fn line(id: &str, bytes: &[u8]) -> String {
        format!("{id} {}", STANDARD.encode(bytes))
    }

    #[test]
    fn sealed_secret_opens_for_its_endpoint_alone() {
        let vault = vault(true, &[("2026", 1)]);
        let (mine, other) = (Uuid::now_v7(), Uuid::now_v7());
        let kept = vault.keep(mine, SECRET).expect("random");
        let again = vault.keep(mine, SECRET).expect("random");
        assert_ne!(kept, again, "a fresh nonce each time");
        assert!(kept.plain.is_empty());
        assert_eq!(vault.reveal(mine, &kept).as_deref(), Ok(SECRET));
        let moved = vault.reveal(other, &kept);
        assert_eq!(moved, Err(Unopened::WrongKey("2026".to_owned())));
    }

    #[test]
    fn wrong_key_is_named() {
        let endpoint = Uuid::now_v7();
        let kept = vault(true, &[("2026", 1)]).keep(endpoint, SECRET);
        let kept = kept.expect("random");
        let other = vault(true, &[("2026", 2)]).reveal(endpoint, &kept);
        let said = other.expect_err("another value").to_string();
        assert!(
            said.contains("\"2026\" of WEBHOOK_KEYS_FILE does not open it"),
            "{said}"
        );
        let none = vault(true, &[("2027", 1)]).reveal(endpoint, &kept);
        let said = none.expect_err("another id").to_string();
        assert!(
            said.contains("\"2026\", which is not in WEBHOOK_KEYS_FILE"),
            "{said}"
        );
        for sealed in ["", "2026", "2026:", "2026:AAAA", "2026:***"] {
            let kept = Kept::sealed(sealed.to_owned());
            let opened = vault(true, &[("2026", 1)]).reveal(endpoint, &kept);
            assert!(opened.is_err(), "{sealed:?}");
        }
    }

    #[test]
    fn first_key_seals_and_all_of_them_open() {
        let endpoint = Uuid::now_v7();
        let before = vault(true, &[("old", 1)]);
        let kept = before.keep(endpoint, SECRET).expect("random");
        assert!(before.is_settled(&kept));
        let after = vault(true, &[("new", 2), ("old", 1)]);
        assert_eq!(after.reveal(endpoint, &kept).as_deref(), Ok(SECRET));
        assert!(!after.is_settled(&kept), "it is to be sealed anew");
        let kept = after.keep(endpoint, SECRET).expect("random");
        assert!(
            kept.sealed
                .as_deref()
                .is_some_and(|sealed| sealed.starts_with("new:"))
        );
        assert!(after.is_settled(&kept));
    }

    #[test]
    fn plain_secret_holds_until_it_is_sealed() {
        let endpoint = Uuid::now_v7();
        let plain = Kept::plain(SECRET);
        let sealing = vault(true, &[("2026", 1)]);
        assert_eq!(sealing.reveal(endpoint, &plain).as_deref(), Ok(SECRET));
        assert!(!sealing.is_settled(&plain));
        // An older replica wrote a plain secret beside the sealed one.
        let both = Kept {
            plain: SECRET.to_vec(),
            ..sealing.keep(endpoint, b"the one before").expect("random")
        };
        assert_eq!(sealing.reveal(endpoint, &both).as_deref(), Ok(SECRET));
        assert!(!sealing.is_settled(&both));
        // With sealing switched off, secrets stay in plain for replicas that cannot open them.
        let waiting = vault(false, &[("2026", 1)]);
        assert_eq!(waiting.keep(endpoint, SECRET).expect("plain"), plain);
        assert!(waiting.is_settled(&plain));
    }

    #[test]
    fn file_of_keys_is_checked_and_errors_show_no_key() {
        let development = line("renamed", DEVELOPMENT);
        let (one, short) = (line("one", &[1; 32]), line("one", &[1; 16]));
        let twice = format!("{one}\n{one}");
        let read = |text: &str, environment| {
            let read = keys(text, environment).map(|keys| keys.len());
            read.map_err(|error| format!("{error:#}"))
        };
        for (text, why) in [
            ("", "the file has no key"),
            ("# nothing\n\n", "the file has no key"),
            ("one", "line 1: is not a valid key"),
            ("o/ne AAAA", "is not a valid id"),
            (&short, "\"one\" is not valid"),
            ("one !!!", "\"one\" is not valid"),
            (&twice, "line 2: the id \"one\" is used twice"),
            (&development, "is not for ENVIRONMENT=production"),
        ] {
            let refused = read(text, Environment::Production).expect_err(text);
            assert!(refused.contains(why), "{text:?}: {refused}");
            assert!(!refused.contains("AQEB"), "{refused}");
        }
        let two = format!("# the newest first\n{one}\r\n\n{}\n", line("two", &[2; 32]));
        assert_eq!(read(&two, Environment::Production), Ok(2));
        assert_eq!(read(&development, Environment::Development), Ok(1));
        let kept = include_str!("../../../../../deploy/development/secrets/webhook-keys");
        assert!(
            read(kept, Environment::Production).is_err(),
            "it is the development key"
        );
    }
}
