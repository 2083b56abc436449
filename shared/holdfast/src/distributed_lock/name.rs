//! What a lock is called, and what is called by it in Redis.

use std::{borrow::Borrow, fmt, sync::Arc};

use super::Error;

/// The longest name, in bytes.
pub(super) const LONGEST: usize = 200;

/// Before every key and channel, so that an ACL can name them: `~lock:* &lock:*`.
const PREFIX: &str = "lock:";

/// The last fence of all locks. One key, because a fence must grow per lock and may grow over all; and because it is kept for
/// ever, so that one for each lock would fill the memory. `#` is in no lock's name.
pub(super) const FENCE_KEY: &str = "lock:#fence";

/// The checked name of a lock, as the key of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(Arc<str>);

impl Name {
    pub(super) fn parse(name: &str) -> Result<Self, Error> {
        let why = if name.is_empty() {
            "it is empty"
        } else if name.len() > LONGEST {
            "it is too long"
        } else if !name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:/@-".contains(&byte))
        {
            "it has other characters"
        } else {
            return Ok(Self([PREFIX, name].concat().into()));
        };
        Err(Error::Name {
            name: name.to_owned(),
            why,
        })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0[PREFIX.len()..]
    }

    /// The key that holds its holder's token; also the channel on which its release is told.
    pub(super) fn key(&self) -> &str {
        &self.0
    }
}

/// In a map it is found by its key.
impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.key()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
