//! The shape of a definition: what the transition function goes by. No types of the saga's own, so that it is one function
//! for all of them, and small enough to be searched exhaustively.

/// The shape of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The steps' shapes, in order.
    pub steps: Vec<PlanStep>,
    /// The point of no return.
    pub pivot: Option<usize>,
}

/// The shape of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanStep {
    /// Its name.
    pub name: &'static str,
    /// Whether there is something to do.
    pub action: bool,
    /// Whether there is something to undo.
    pub compensation: bool,
    /// Whether an operator can have it written off by who does it.
    pub settlement: bool,
    /// How often its action is asked for; `None`: for ever.
    pub attempts: Option<u32>,
    /// How often its compensation, or settlement, is asked for.
    pub undo_attempts: Option<u32>,
}

impl Plan {
    /// The place of a step.
    pub fn step(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// Whether `step` comes before the point of no return.
    pub(super) fn is_before_pivot(&self, step: usize) -> bool {
        self.pivot.is_none_or(|pivot| step < pivot)
    }

    /// Whether a refusal of `step` still undoes the saga: up to the pivot itself.
    pub(super) fn may_be_refused(&self, step: usize) -> bool {
        self.pivot.is_none_or(|pivot| step <= pivot)
    }
}
