//! The shape of a definition, on which `transition` decides. It has no types of the saga's own,
//! so one function serves all sagas, and it is small enough for an exhaustive search.

/// The shape of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    /// The steps' shapes, in order.
    pub steps: Vec<PlanStep>,
    /// The index of the pivot in `steps`.
    pub pivot: Option<usize>,
}

/// The shape of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanStep {
    /// The step's name.
    pub name: &'static str,
    /// Set if the step has an action.
    pub action: bool,
    /// Set if the step has a compensation.
    pub compensation: bool,
    /// Set if the step has a settlement.
    pub settlement: bool,
    /// The attempts of the action before giving up; `None`: no limit.
    pub attempts: Option<u32>,
    /// The attempts of the compensation, and of the settlement, before giving up; `None`: no limit.
    pub undo_attempts: Option<u32>,
}

impl Plan {
    /// Returns the index of a step.
    pub fn step(&self, name: &str) -> Option<usize> {
        self.steps.iter().position(|step| step.name == name)
    }

    /// Returns true if `step` comes before the pivot, or if there is no pivot.
    pub(super) fn is_before_pivot(&self, step: usize) -> bool {
        self.pivot.is_none_or(|pivot| step < pivot)
    }

    /// Returns true if a refusal of `step` still turns the saga around: up to and including the pivot.
    pub(super) fn may_be_refused(&self, step: usize) -> bool {
        self.pivot.is_none_or(|pivot| step <= pivot)
    }
}
