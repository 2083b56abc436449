//! What the executor takes, and what it gives.

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
    /// The saga.
    pub saga: Uuid,
    /// What it is about.
    pub subject: &'a str,
    /// The step.
    pub step: &'static str,
    /// What it is asked.
    pub asked: Direction,
    /// Which time; 1 is the first.
    pub attempt: u32,
    /// Which input of the batch led to it; for a timeout, its place among the overdue.
    pub cause: usize,
    /// The W3C `traceparent` and `tracestate` of the trace that the saga began in.
    pub traceparent: Option<&'a str>,
    /// See `traceparent`.
    pub tracestate: Option<&'a str>,
}

impl Outgoing<'_> {
    /// The permanent name of the effect that is asked for, which its answer carries back: see [`Key`].
    pub fn key(&self) -> String {
        Key {
            saga: self.saga,
            step: self.step.to_owned(),
            asked: self.asked,
        }
        .to_string()
    }
}

/// Makes the outbox row for a command. The one thing that the executor leaves to its user: how commands travel.
///
/// Sent again, a command is a new message (a new message id) under the same [`Outgoing::key`].
pub type Dispatch<'a, C> = dyn FnMut(&Outgoing<'_>, C) -> outbox::Message + Send + 'a;

/// A saga to be started.
#[derive(Clone, Debug)]
pub struct Start<D> {
    /// Its id. It must follow from what it is about, so that it is started once.
    pub id: Uuid,
    /// The definition's name; the highest version is taken.
    pub definition: &'static str,
    /// What it is about.
    pub subject: String,
    /// What its commands are made of.
    pub data: D,
    /// The W3C `traceparent` and `tracestate` of the trace that it is part of.
    pub traceparent: Option<String>,
    /// See `traceparent`.
    pub tracestate: Option<String>,
}

/// A saga that came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub saga: Uuid,
    /// Its definition.
    pub definition: &'static str,
    /// How.
    pub end: End,
    /// When it began, on the database's clock.
    pub created_at: OffsetDateTime,
}

/// What a batch of inputs came to. Nothing of it holds before the transaction commits.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    /// How many inputs changed something.
    pub changed: usize,
    /// How many had no effect: late, twice, or to a saga that cannot be read.
    pub ignored: usize,
    /// The inputs, by their place, whose saga does not exist, or has no such step.
    pub unknown: Vec<usize>,
    /// Commands that were written, by step and direction.
    pub sent: BTreeMap<(&'static str, Direction), u64>,
    /// Sagas that ended.
    pub ended: Vec<Ended>,
    /// Sagas that wait for an operator now, and why.
    pub stuck: Vec<(Uuid, String)>,
    /// Sagas that cannot be read, found just now, and why.
    pub broken: Vec<(Uuid, String)>,
}

/// Why a saga could not be started, or an operator's action not be carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No definition has this name: a message that asks for it is to be parked.
    #[error("there is no saga {0:?}")]
    UnknownDefinition(String),
    /// The data cannot be stored: a defect.
    #[error("the saga's data cannot be stored: {0}")]
    Data(#[from] serde_json::Error),
    /// There is no such saga: 404.
    #[error("there is no saga {0}")]
    NotFound(Uuid),
    /// It does not wait for an operator: 409.
    #[error(transparent)]
    NotStuck(#[from] NotStuck),
    /// It cannot be read: only resuming it is possible, once it, or the program, is mended: 409.
    #[error("the saga cannot be read: {0}")]
    Broken(String),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}
