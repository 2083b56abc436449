//! The idempotency keys of a saga's commands.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::state::Direction;

/// The permanent name of one command: `SAGA/STEP/DIRECTION`. The command carries it as its idempotency key and the
/// reply carries it back, so that the reply finds its saga and step. It is the same for every attempt.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The saga's id.
    pub saga: Uuid,
    /// The name of the step, neither empty nor with a `/` in it.
    pub step: String,
    /// The command's direction.
    pub direction: Direction,
}

/// A text that is not a valid [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a saga's idempotency key is SAGA/STEP/do, /undo or /settle")]
pub struct InvalidKey;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.saga, self.step, self.direction.name())
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.split('/');
        let (Some(saga), Some(step), Some(direction), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidKey);
        };
        Ok(Self {
            saga: saga.parse().map_err(|_| InvalidKey)?,
            step: (!step.is_empty())
                .then(|| step.to_owned())
                .ok_or(InvalidKey)?,
            direction: direction.parse().map_err(|()| InvalidKey)?,
        })
    }
}
