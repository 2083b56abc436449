//! The errors of this module.

use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The reason for which a lock was not acquired, or is no longer held.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The name is not valid for a lock. Fix the caller.
    #[error(
        "{name:?} is not a valid lock name (1 to {} bytes of a-z, A-Z, 0-9 and . _ : / @ -): {why}",
        super::name::LONGEST
    )]
    Name {
        /// The rejected name.
        name: String,
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The time to live is too short to be renewed in time, or too long to wait for after a crash. Fix the caller.
    #[error(
        "{given:?} is not a valid time to live for a lock ({:?} to {:?})",
        super::SHORTEST_TTL,
        super::LONGEST_TTL
    )]
    Ttl {
        /// The rejected time to live.
        given: Duration,
    },
    /// The number is out of a fence's range, so it did not come from a lock.
    #[error("{given} is not a valid fence (0 to {})", super::Fence::HIGHEST)]
    Fence {
        /// The rejected number.
        given: i64,
    },
    /// Another holder had the lock until the timeout. Do without, or try later.
    #[error("another holder kept the lock {0:?} until the timeout")]
    Timeout(String),
    /// The lock is no longer ours: its time to live was over, or Redis lost it. Stop the work under it; what the
    /// database accepted under its fence stands.
    #[error("the lock {0:?} was lost")]
    Lost(String),
    /// Redis did not answer, or cannot serve now. The request may have taken effect; a lock that it acquired ends with
    /// its time to live. Try later.
    #[error("Redis is unavailable: {0}")]
    Unavailable(#[source] RedisError),
    /// Redis refused the request: wrong password, missing rights, too old. It will refuse again: page someone.
    #[error("Redis refused: {0}")]
    Refused(#[source] RedisError),
}

impl Error {
    /// Returns whether the caller may try again without a person's help.
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
            // Memory is full, the disk is full, too few replicas, another client's script has run for too long.
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
