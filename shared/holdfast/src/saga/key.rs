//! The permanent name of an effect.

use std::{fmt, str::FromStr};

use uuid::Uuid;

use super::state::Direction;

/// The permanent name of what a saga asks of a step: `SAGA/STEP/DIRECTION`. It travels with the command as its idempotency
/// key, and back with the answer, which belongs to the saga by it. The same however often it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The saga.
    pub saga: Uuid,
    /// The step.
    pub step: String,
    /// What it is asked.
    pub asked: Direction,
}

/// Not a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a saga's idempotency key is SAGA/STEP/do, /undo or /settle")]
pub struct InvalidKey;

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.saga, self.step, self.asked.name())
    }
}

impl FromStr for Key {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let mut parts = text.split('/');
        let (Some(saga), Some(step), Some(asked), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidKey);
        };
        Ok(Self {
            saga: saga.parse().map_err(|_| InvalidKey)?,
            step: (!step.is_empty())
                .then(|| step.to_owned())
                .ok_or(InvalidKey)?,
            asked: asked.parse().map_err(|()| InvalidKey)?,
        })
    }
}
