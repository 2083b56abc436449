//! The types that the executor takes and returns.

use std::collections::BTreeMap;

use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    key::Key,
    state::{Direction, End},
    transition::NotStuck,
};
use crate::outbox;

/// A command that is about to be written.
#[derive(Clone, Debug)]
pub struct Outgoing<'a> {
    /// The saga's id.
    pub saga: Uuid,
    /// The subject that the saga was started with.
    pub subject: &'a str,
    /// The name of the step.
    pub step: &'static str,
    /// The command's direction.
    pub direction: Direction,
    /// The attempt; 1 is the first.
    pub attempt: u32,
    /// The place in the batch of the input that led to the command; for a timeout, its place among the overdue sagas.
    pub cause: usize,
    /// The W3C `traceparent` of the trace that the saga began in.
    pub traceparent: Option<&'a str>,
    /// The W3C `tracestate` that belongs to `traceparent`.
    pub tracestate: Option<&'a str>,
}

impl Outgoing<'_> {
    /// Returns the command's idempotency key, which its reply carries back: see [`Key`].
    pub fn key(&self) -> String {
        Key {
            saga: self.saga,
            step: self.step.to_owned(),
            direction: self.direction,
        }
        .to_string()
    }
}

/// A function that makes the outbox row for a command. How commands travel is the one thing that the executor leaves to
/// its user.
///
/// A resent command is a new message with a new message id, under the same [`Outgoing::key`].
pub type Dispatch<'a, C> = dyn FnMut(&Outgoing<'_>, C) -> outbox::Message + Send + 'a;

/// A saga to be started.
#[derive(Clone, Debug)]
pub struct Start<D> {
    /// The saga's id. It must follow from the saga's subject, so that each saga is started once.
    pub id: Uuid,
    /// The definition's name; the highest version is used.
    pub definition: &'static str,
    /// The subject of the saga, e.g. an order's id.
    pub subject: String,
    /// The data that the payload functions read.
    pub data: D,
    /// The W3C `traceparent` of the trace that the saga is part of.
    pub traceparent: Option<String>,
    /// The W3C `tracestate` that belongs to `traceparent`.
    pub tracestate: Option<String>,
}

/// A saga that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The saga's id.
    pub saga: Uuid,
    /// The name of its definition.
    pub definition: &'static str,
    /// The way in which it ended.
    pub end: End,
    /// The time of its start, on the database's clock.
    pub created_at: OffsetDateTime,
}

/// The result of a batch of inputs. None of it holds before the transaction commits.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// The number of inputs that changed a saga.
    pub changed: usize,
    /// The number of inputs without effect: late, repeated, or for a saga that is broken.
    pub ignored: usize,
    /// The places in the batch of inputs for a saga that does not exist or has no such step.
    pub unknown: Vec<usize>,
    /// The number of commands written, by step and direction.
    pub sent: BTreeMap<(&'static str, Direction), u64>,
    /// The sagas that ended.
    pub ended: Vec<Ended>,
    /// The sagas that got stuck, with the reason.
    pub stuck: Vec<(Uuid, String)>,
    /// The sagas that were found broken and marked so, with the reason.
    pub broken: Vec<(Uuid, String)>,
}

/// An error of starting a saga or of an operator's action. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No definition has this name. Park the message that names it.
    #[error("there is no saga definition named {0:?}")]
    UnknownDefinition(String),
    /// The data cannot be written as JSON: a bug.
    #[error("the saga's data cannot be stored: {0}")]
    Data(#[from] serde_json::Error),
    /// The saga does not exist. Respond with 404.
    #[error("there is no saga {0}")]
    NotFound(Uuid),
    /// The saga does not wait for an operator. Respond with 409.
    #[error(transparent)]
    NotStuck(#[from] NotStuck),
    /// The saga cannot be read. Respond with 409; `Resume` works once its row or the program is repaired.
    #[error("the saga cannot be read: {0}")]
    Broken(String),
    /// The database failed. Retry.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
