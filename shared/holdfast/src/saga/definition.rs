//! A saga as plain data.

use std::time::Duration;

use super::{
    plan::{Plan, PlanStep},
    state::{Answer, By, Cause, Direction, Mark, State},
};

/// What makes a command of what the saga knows. A plain function: it can be found by search, and tested alone.
///
/// It must be total and must answer the same for the same view: a command that is sent again is made again.
pub type Payload<D, C> = fn(&View<'_, D>) -> C;

/// A saga: its steps, in order. `D` is what it is started with, `C` is what it sends.
///
/// To change one, write a new one with a higher version beside it, and keep the old one for as long as a saga runs under it.
#[derive(Debug)]
pub struct Definition<D: 'static, C: 'static> {
    /// What it does: `place_order`.
    pub name: &'static str,
    /// Counts its changes. A saga ends under the version that it began with.
    pub version: u32,
    /// In the order in which they are done; undone in reverse.
    pub steps: &'static [Step<D, C>],
}

/// One step of a saga.
#[derive(Debug)]
pub struct Step<D: 'static, C: 'static> {
    /// What it does, once per saga: `charge_payment`.
    pub name: &'static str,
    /// The command that does it. `None`: it is done before the saga starts, or there is nothing to do but to undo; such a step
    /// comes before all those that have one.
    pub action: Option<Payload<D, C>>,
    /// The command that undoes it, whatever became of the action: done, not done, or nobody knows.
    pub compensation: Option<Payload<D, C>>,
    /// The command by which an operator writes it off, in place of an action or a compensation that does not succeed.
    pub settlement: Option<Payload<D, C>>,
    /// How long to wait for the action's answer, and how often to ask.
    pub retry: Retry,
    /// The same for the compensation and the settlement.
    pub undo_retry: Retry,
    /// The point of no return: with its success the saga only goes forward, and once its command is written only its reply
    /// decides. At most one step. One without an action was done before the saga started, which then only goes forward.
    pub pivot: bool,
}

/// How long to wait for an answer, and how often to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// How long the first time. Twice as long each time after that, ...
    pub timeout: Duration,
    /// ... up to this.
    pub longest: Duration,
    /// How often to ask before giving up; `None` asks for ever.
    pub attempts: Option<u32>,
}

impl Retry {
    /// How long to wait for the answer to attempt `attempt`, which is 1 the first time.
    pub fn wait(&self, attempt: u32) -> Duration {
        self.timeout
            .saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)))
            .min(self.longest)
    }
}

/// What a payload function sees.
#[derive(Debug)]
pub struct View<'a, D> {
    /// What the saga was started with.
    pub data: &'a D,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a State,
}

impl<D> View<'_, D> {
    /// What became of a step. A step that the definition does not have is `Waiting` for ever.
    pub fn mark(&self, step: &str) -> &Mark {
        self.plan
            .step(step)
            .and_then(|index| self.state.marks.get(index))
            .unwrap_or(&Mark::Waiting)
    }

    /// What undid a step, or did it: the last answer to it.
    pub fn answer(&self, step: &str) -> Option<&Answer> {
        self.mark(step).answer()
    }

    /// Why it is being undone, and by which step; `None` while it goes forward.
    pub fn cause(&self) -> Option<(&'static str, &Cause)> {
        let cause = self.state.cause.as_ref()?;
        let step = self
            .plan
            .steps
            .get(cause.step())
            .map_or("", |step| step.name);
        Some((step, cause))
    }

    /// The operator who writes the step in hand off.
    pub fn operator(&self) -> Option<&By> {
        self.state.writes_off()
    }
}

impl<D, C> Step<D, C> {
    /// What makes the command by which it is asked this; `None`, if it cannot be.
    pub(super) fn payload(&self, asked: Direction) -> Option<Payload<D, C>> {
        match asked {
            Direction::Do => self.action,
            Direction::Undo => self.compensation,
            Direction::Settle => self.settlement,
        }
    }

    /// How long to wait for the answer to that, and how often to ask.
    pub(super) fn patience(&self, asked: Direction) -> Retry {
        match asked {
            Direction::Do => self.retry,
            Direction::Undo | Direction::Settle => self.undo_retry,
        }
    }
}

/// Why a definition is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Nothing would ever happen.
    #[error("{0}: no step has an action")]
    NoAction(&'static str),
    /// Replies are matched by the name.
    #[error("{0}: two steps are called {1}")]
    SameName(&'static str, &'static str),
    /// There is one point of no return.
    #[error("{0}: more than one pivot")]
    Pivots(&'static str),
    /// Giving up on the pivot would be to decide without its reply.
    #[error("{0}: the pivot {1} must be asked for ever")]
    PivotGivesUp(&'static str, &'static str),
    /// A step before the pivot that is given up must be undone.
    #[error("{0}: {1} comes before the pivot and has no compensation")]
    NoCompensation(&'static str, &'static str),
    /// A wait of nothing is a storm.
    #[error("{0}: {1} has a timeout of zero, or no attempts")]
    NoPatience(&'static str, &'static str),
    /// A reply finds its step by a [`Key`](super::Key): one that cannot be read back would be asked for ever.
    #[error("{0}: {1:?} cannot be part of an idempotency key")]
    Name(&'static str, &'static str),
    /// What was done before the saga starts is the point of no return from the start, or must be undone whatever happens:
    /// it cannot wait for the saga to come past it.
    #[error(
        "{0}: {1} was done before the saga starts, and must come before the first step with an action"
    )]
    DoneBefore(&'static str, &'static str),
    /// Nobody could say under which of the two a saga began.
    #[error("{0}: two definitions of version {1}")]
    SameVersion(&'static str, u32),
}

impl<D, C> Definition<D, C> {
    /// Its shape: all that decides about what happens next.
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

    /// Whether it makes sense. Call it once, in a test or at the start.
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
