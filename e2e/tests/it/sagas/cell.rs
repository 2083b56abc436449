//! What can go wrong, and with what: the cells that must be tried. They follow from the definitions, so that a new step
//! without cells is found.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, PoisonError},
};

use contracts::{order::Saga, value::OrderId};
use orchestrator::domain::{Command, DEFINITIONS, Data, definition, saga_id};

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// It is refused; where that cannot be, from the pivot on, whoever is asked fails at first.
    Fails,
    /// It is not answered: until the pivot never, from the pivot on not at first.
    TimesOut,
    /// The answer comes three times, once of them as a new message.
    RepliesTwice,
    /// The answer comes when nobody waits for it any more: the compensation has begun, or a later answer was quicker.
    RepliesLate,
    /// The customer cancels the order while the step is asked for.
    Cancelled,
    /// The orchestrator aborts before it has committed what leads to the step.
    AbortsBeforeCommit,
    /// It has committed, and has neither acknowledged nor published anything.
    AbortsAfterCommit,
    /// Its relay is about to publish the step's command.
    AbortsBeforePublish,
    /// The command is published, and its row is still there.
    AbortsAfterPublish,
    /// The compensation is asked for once in vain.
    UndoFailsOnce,
    /// It is asked for in vain, however often.
    UndoFailsAlways,
    /// Nobody knows what the step that it undoes came to.
    UndoOfUnknown,
}

impl Fault {
    /// What can go wrong with a step.
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

    /// What can go wrong with a compensation.
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

/// A step, or its compensation, and what goes wrong with it.
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

/// Every cell.
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

    /// Those of `all` that were not tried, by name.
    pub(super) fn missing(&self, all: &BTreeSet<Cell>) -> Vec<String> {
        let ran = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.difference(&ran).map(Cell::to_string).collect()
    }
}

/// The name of what a saga asks of a step, which command and answer carry as their idempotency key.
pub(super) fn key(order: OrderId, saga: Saga, step: &str, asked: &str) -> String {
    format!("{}/{step}/{asked}", saga_id(order, saga))
}

/// The name of the message that starts a saga.
pub(super) fn start_key(order: OrderId, saga: Saga) -> String {
    format!("{order}/{}", definition(saga).name)
}

/// The saga of this name.
pub(super) fn saga_named(name: &str) -> Saga {
    [Saga::PlaceOrder, Saga::UndoOrder]
        .into_iter()
        .find(|saga| definition(*saga).name == name)
        .unwrap_or_else(|| panic!("there is no saga {name}"))
}

/// The steps that are asked for, in order.
pub(super) fn asked_of(
    saga: Saga,
) -> impl Iterator<Item = &'static holdfast::saga::Step<Data, Command>> {
    let steps = definition(saga).steps.iter();
    steps.filter(|step| step.action.is_some())
}
