//! A saga as plain data.

use std::time::Duration;

use super::{
    plan::{Plan, PlanStep},
    state::{Answer, By, Cause, Direction, State, Status},
};

/// A function that makes a command from what the saga knows. A plain function can be found by search, and tested alone.
///
/// It must be total, and must return the same command for the same view, because it is called again for each resend.
pub type Payload<D, C> = fn(&View<'_, D>) -> C;

/// A saga: its steps, in order. `D` is the data that it is started with, `C` the type of its commands.
///
/// To change a definition, write a new one with a higher version beside it, and keep the old one for as long as a saga
/// runs under it.
#[derive(Debug)]
pub struct Definition<D: 'static, C: 'static> {
    /// The kind of saga, e.g. `place_order`.
    pub name: &'static str,
    /// The version of this definition, higher with each change. A saga ends under the version that it began with.
    pub version: u32,
    /// The steps in the order of their actions; compensations run in reverse.
    pub steps: &'static [Step<D, C>],
}

/// One step of a saga.
#[derive(Debug)]
pub struct Step<D: 'static, C: 'static> {
    /// The step's name, unique in the saga: `charge_payment`.
    pub name: &'static str,
    /// The command that does the step. `None` for a step that was done before the saga started, or that only has a
    /// compensation; such a step comes before all steps with an action.
    pub action: Option<Payload<D, C>>,
    /// The command that undoes the step. It must be right whether the action was done, was not done, or has an unknown
    /// outcome.
    pub compensation: Option<Payload<D, C>>,
    /// The command with which an operator has the step written off, in place of an action or a compensation that keeps
    /// failing.
    pub settlement: Option<Payload<D, C>>,
    /// The timeouts and attempts of the action.
    pub retry: Retry,
    /// The timeouts and attempts of the compensation and of the settlement.
    pub undo_retry: Retry,
    /// Set on the point of no return. Once the pivot's command is written only its reply decides, and once it is done
    /// the saga only goes forward. At most one step is the pivot. A pivot without an action was done before the saga
    /// started, which then only goes forward.
    pub pivot: bool,
}

/// A version of a definition, and its shape.
#[derive(Debug)]
pub(super) struct Known<D: 'static, C: 'static> {
    pub(super) definition: &'static Definition<D, C>,
    pub(super) plan: Plan,
}

/// The waits for a reply, and the number of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The wait after the first attempt, more than zero. It doubles with each further attempt, up to `longest`.
    pub timeout: Duration,
    /// The longest wait after an attempt, more than zero.
    pub longest: Duration,
    /// The attempts to make before giving up, at least 1; `None` resends without a limit.
    pub attempts: Option<u32>,
}

impl Retry {
    /// Returns the wait for the reply to attempt `attempt`, which is 1 the first time.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.timeout
            .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)))
            .min(self.longest)
    }
}

/// The input of a payload function.
#[derive(Debug)]
pub struct View<'a, D> {
    /// The data that the saga was started with.
    pub data: &'a D,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a State,
}

impl<D> View<'_, D> {
    /// Returns the status of a step: `Waiting` for one that the definition does not have.
    pub fn status(&self, step: &str) -> &Status {
        self.plan
            .step(step)
            .and_then(|index| self.state.statuses.get(index))
            .unwrap_or(&Status::Waiting)
    }

    /// Returns the latest reply to a step's command.
    pub fn answer(&self, step: &str) -> Option<&Answer> {
        self.status(step).answer()
    }

    /// Returns the step that made the saga turn around, and the cause; `None` while the saga goes forward.
    pub fn cause(&self) -> Option<(&'static str, &Cause)> {
        let cause = self.state.cause.as_ref()?;
        let step = self
            .plan
            .steps
            .get(cause.step())
            .map_or("", |step| step.name);
        Some((step, cause))
    }

    /// Returns the operator who has the current step written off.
    pub fn operator(&self) -> Option<&By> {
        self.state.writes_off()
    }
}

impl<D, C> Step<D, C> {
    /// Returns the function that makes the command for this direction; `None` if the step has no such command.
    pub(super) fn payload(&self, direction: Direction) -> Option<Payload<D, C>> {
        match direction {
            Direction::Do => self.action,
            Direction::Undo => self.compensation,
            Direction::Settle => self.settlement,
        }
    }

    /// Returns the waits and attempts for this direction.
    pub(super) fn patience(&self, direction: Direction) -> Retry {
        match direction {
            Direction::Do => self.retry,
            Direction::Undo | Direction::Settle => self.undo_retry,
        }
    }
}

/// The reason why a definition, or the pace of an executor, is invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A saga without actions would never do anything.
    #[error("{0}: no step has an action")]
    NoAction(&'static str),
    /// A reply finds its step by name, so names must be unique.
    #[error("{0}: two steps are called {1}")]
    SameName(&'static str, &'static str),
    /// A saga has one point of no return.
    #[error("{0}: more than one pivot")]
    Pivots(&'static str),
    /// Giving up on the pivot would be a decision without its reply.
    #[error("{0}: the pivot {1} must be asked for ever")]
    PivotGivesUp(&'static str, &'static str),
    /// A step before the pivot must be undone when it times out.
    #[error("{0}: {1} comes before the pivot and has no compensation")]
    NoCompensation(&'static str, &'static str),
    /// Without a wait, commands would be resent in a tight loop.
    #[error("{0}: {1} has a timeout of zero, or no attempts")]
    NoPatience(&'static str, &'static str),
    /// A reply finds its step by a [`Key`](super::Key). A name that the key cannot carry would be resent for ever.
    #[error("{0}: {1:?} cannot be part of an idempotency key")]
    Name(&'static str, &'static str),
    /// A step that was done before the saga started counts from the start: a pivot forbids every compensation, and any
    /// other step must always be undone. Neither can come after a step with an action.
    #[error(
        "{0}: {1} was done before the saga starts, and must come before the first step with an action"
    )]
    DoneBefore(&'static str, &'static str),
    /// With two definitions of one version, a saga's own definition would be ambiguous.
    #[error("{0}: two definitions of version {1}")]
    SameVersion(&'static str, u32),
    /// Without a wait, commands would be resent in a tight loop; with too long a one, never.
    #[error("a pace of {0} is not valid: it must be from 0.001 to 100")]
    Pace(String),
}

impl<D, C> Definition<D, C> {
    /// Returns the shape of the definition: all that decides what happens next.
    pub fn plan(&self) -> Plan {
        let steps = self.steps.iter().map(|step| PlanStep {
            name: step.name,
            action: step.action.is_some(),
            compensation: step.compensation.is_some(),
            settlement: step.settlement.is_some(),
            attempts: step.retry.attempts,
            undo_attempts: step.undo_retry.attempts,
        });
        Plan {
            steps: steps.collect(),
            pivot: self.steps.iter().position(|step| step.pivot),
        }
    }

    /// Checks that the definition is valid. Call it once, in a test or at the start.
    pub fn check(&self) -> Result<(), Invalid> {
        let name = self.name;
        if self.steps.iter().all(|step| step.action.is_none()) {
            return Err(Invalid::NoAction(name));
        }
        if self.steps.iter().filter(|step| step.pivot).count() > 1 {
            return Err(Invalid::Pivots(name));
        }
        let pivot = self.steps.iter().position(|step| step.pivot);
        for (index, step) in self.steps.iter().enumerate() {
            if self.steps[..index]
                .iter()
                .any(|other| other.name == step.name)
            {
                return Err(Invalid::SameName(name, step.name));
            }
            if step.name.is_empty() || step.name.contains('/') {
                return Err(Invalid::Name(name, step.name));
            }
            if step.pivot && step.action.is_some() && step.retry.attempts.is_some() {
                return Err(Invalid::PivotGivesUp(name, step.name));
            }
            let is_before = pivot.is_none_or(|pivot| index < pivot);
            if is_before && step.action.is_some() && step.compensation.is_none() {
                return Err(Invalid::NoCompensation(name, step.name));
            }
            let is_to_undo = step.compensation.is_some();
            let has_begun = self.steps[..index]
                .iter()
                .any(|other| other.action.is_some());
            if step.action.is_none() && (is_to_undo || step.pivot) && has_begun {
                return Err(Invalid::DoneBefore(name, step.name));
            }
            let patient = |retry: Retry| {
                !retry.timeout.min(retry.longest).is_zero() && retry.attempts != Some(0)
            };
            if !patient(step.retry) || !patient(step.undo_retry) {
                return Err(Invalid::NoPatience(name, step.name));
            }
        }
        Ok(())
    }
}
