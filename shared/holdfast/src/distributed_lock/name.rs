//! Names of locks, and the keys made of them in Redis.

use std::{borrow::Borrow, fmt, sync::Arc};

use super::Error;

/// The longest name, in bytes.
pub(super) const LONGEST: usize = 200;

/// The prefix of every key and channel, by which an ACL names them: `~lock:* &lock:*`.
const PREFIX: &str = "lock:";

/// The key of the last fence of all locks. One key for all, because a fence has to grow per lock and may grow over all,
/// and because it is kept for ever: a key for each lock would fill the memory. `#` is not valid in a lock's name.
pub(super) const FENCE_KEY: &str = "lock:#fence";

/// A valid name of a lock, stored as its key.
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

    /// Returns the key that holds the holder's token, which is also the channel on which the release is published.
    pub(super) fn key(&self) -> &str {
        &self.0
    }
}

/// A map of names is searched by key.
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
