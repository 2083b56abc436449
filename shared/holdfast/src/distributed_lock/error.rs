//! What goes wrong.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// Why there is no lock.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The name is no name for a lock. Fix the caller.
    #[error(
        "a lock's name is 1 to {} bytes of a-z, A-Z, 0-9 and . _ : / @ -, not {name:?}: {why}",
        super::name::LONGEST
    )]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The time to live is too short to be kept, or too long to wait for after a crash. Fix the caller.
    #[error(
        "a lock lives from {:?} to {:?}, not {given:?}",
        super::SHORTEST_TTL,
        super::LONGEST_TTL
    )]
    Ttl {
        /// What was given.
        given: Duration,
    },
    /// No number that a fence can be. Whoever wrote it did not have it from a lock.
    #[error("a fence is from 0 to {}, not {given}", super::Fence::HIGHEST)]
    Fence {
        /// What was given.
        given: i64,
    },
    /// Somebody else held it all the time. Do without, or come again later.
    #[error("somebody else held the lock {0:?} all the time")]
    Timeout(String),
    /// The lock is not ours any more: its time was over, or Redis lost it. Stop what it was for; what the database accepted
    /// under its fence stands.
    #[error("the lock {0:?} was lost")]
    Lost(String),
    /// Redis did not answer, or cannot serve now. Nobody knows whether it did what it was asked; what it may have locked
    /// ends with its time to live. Come again later.
    #[error("Redis is not available: {0}")]
    Unavailable(#[source] RedisError),
    /// Redis answered, and refused: wrong password, missing rights, too old. It will refuse again: tell a person.
    #[error("Redis refused: {0}")]
    Refused(#[source] RedisError),
}

impl Error {
    /// Whether it makes sense to ask again by itself.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Timeout(_) | Self::Unavailable(_))
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        let temporary = match error.kind() {
            ErrorKind::Io | ErrorKind::Parse => true,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::TryAgain,
            ) => true,
            // Memory is full, the disk is full, too few replicas, a script of somebody else's runs for too long.
            _ => matches!(
                error.code(),
                Some("OOM" | "MISCONF" | "NOREPLICAS" | "BUSY")
            ),
        };
        if temporary {
            Self::Unavailable(error)
        } else {
            Self::Refused(error)
        }
    }
}
