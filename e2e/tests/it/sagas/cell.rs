//! The cells that must be tried: every step and every compensation with each of its faults. They follow from the
//! definitions, so that a new step without cells is found.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use contracts::{order::Saga, value::OrderId};
use orchestrator::domain::{Command, DEFINITIONS, Data, definition, saga_id};

/// A fault of a step or of a compensation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// A refusal; from the pivot on, where a step cannot be refused, a failure of the participant at first.
    Fails,
    /// No reply: never before the pivot, and from the pivot on not at first.
    TimesOut,
    /// Three copies of the reply, one of them as a new message.
    RepliesTwice,
    /// A reply that is no longer awaited: the compensation has begun, or a later reply was faster.
    RepliesLate,
    /// A cancel by the customer while the step is in flight.
    Cancelled,
    /// An abort of the orchestrator before it commits the transition that leads to the step.
    AbortsBeforeCommit,
    /// An abort after that commit, before it has acknowledged or published anything.
    AbortsAfterCommit,
    /// An abort when its relay is about to publish the step's command.
    AbortsBeforePublish,
    /// An abort after the publish, while the command's row is still in the outbox.
    AbortsAfterPublish,
    /// A compensation whose first command is lost.
    UndoFailsOnce,
    /// A compensation whose commands are lost, however often they are resent.
    UndoFailsAlways,
    /// A compensation of a step whose outcome is unknown.
    UndoOfUnknown,
}

impl Fault {
    /// The faults of a step.
    const OF_STEPS: [Self; 9] = [
        Self::Fails,
        Self::TimesOut,
        Self::RepliesTwice,
        Self::RepliesLate,
        Self::Cancelled,
        Self::AbortsBeforeCommit,
        Self::AbortsAfterCommit,
        Self::AbortsBeforePublish,
        Self::AbortsAfterPublish,
    ];

    /// The faults of a compensation.
    const OF_COMPENSATIONS: [Self; 3] = [
        Self::UndoFailsOnce,
        Self::UndoFailsAlways,
        Self::UndoOfUnknown,
    ];

    fn words(self) -> &'static str {
        match self {
            Self::Fails => "fails",
            Self::TimesOut => "times out",
            Self::RepliesTwice => "replies twice",
            Self::RepliesLate => "replies late",
            Self::Cancelled => "is cancelled",
            Self::AbortsBeforeCommit => "aborts before commit",
            Self::AbortsAfterCommit => "aborts after commit",
            Self::AbortsBeforePublish => "aborts before publish",
            Self::AbortsAfterPublish => "aborts after publish",
            Self::UndoFailsOnce => "undo fails once",
            Self::UndoFailsAlways => "undo fails always",
            Self::UndoOfUnknown => "undo of unknown",
        }
    }
}

/// A step, or its compensation, with a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) saga: &'static str,
    pub(super) step: &'static str,
    pub(super) fault: Fault,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { saga, step, fault } = self;
        write!(f, "{saga} | {step} | {}", fault.words())
    }
}

/// Returns every cell, by the sagas' definitions.
pub(super) fn all() -> BTreeSet<Cell> {
    let mut cells = BTreeSet::new();
    for of in DEFINITIONS {
        for step in of.steps {
            let mut add = |faults: &[Fault]| {
                cells.extend(faults.iter().map(|fault| Cell {
                    saga: of.name,
                    step: step.name,
                    fault: *fault,
                }));
            };
            if step.action.is_some() {
                add(&Fault::OF_STEPS);
            }
            if step.compensation.is_some() {
                add(&Fault::OF_COMPENSATIONS);
            }
        }
    }
    cells
}

/// The cells that were tried, and ended as they should.
#[derive(Debug, Default)]
pub(super) struct Ran(Mutex<BTreeSet<Cell>>);

impl Ran {
    pub(super) fn add(&self, cell: Cell) {
        let mut ran = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(ran.insert(cell), "{cell} was tried before");
    }

    /// Returns the names of those of `all` that were not tried.
    pub(super) fn missing(&self, all: &BTreeSet<Cell>) -> Vec<String> {
        let ran = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.difference(&ran).map(Cell::to_string).collect()
    }
}

/// Returns the idempotency key of a command to a step, which its reply carries, too.
pub(super) fn key(order: OrderId, saga: Saga, step: &str, asked: &str) -> String {
    format!("{}/{step}/{asked}", saga_id(order, saga))
}

/// Returns the idempotency key of the message that starts a saga.
pub(super) fn start_key(order: OrderId, saga: Saga) -> String {
    format!("{order}/{}", definition(saga).name)
}

/// Returns the saga of this name.
pub(super) fn saga_named(name: &str) -> Saga {
    [Saga::PlaceOrder, Saga::UndoOrder]
        .into_iter()
        .find(|saga| definition(*saga).name == name)
        .unwrap_or_else(|| panic!("there is no saga {name}"))
}

/// Returns the steps of a saga that have an action, in order.
pub(super) fn asked_of(
    saga: Saga,
) -> impl Iterator<Item = &'static holdfast::saga::Step<Data, Command>> {
    let steps = definition(saga).steps.iter();
    steps.filter(|step| step.action.is_some())
}
