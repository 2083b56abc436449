//! The sagas of one order: the production plans, and the production transition function.

use std::sync::Arc;

use holdfast::saga::{By, Direction, Effect, Input, Plan, State, transition};

use super::{
    super::guards::Without,
    message::{Key, Saga},
};

/// The plans of both sagas.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    place: Plan,
    undo: Plan,
    without: Without,
}

/// The states of both sagas. Shared between the worlds of a search, because most steps leave them as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sagas {
    pub place: Option<Arc<State>>,
    pub undo: Option<Arc<State>>,
}

impl Plans {
    /// Returns the plans of the definitions. A step that has a limit of attempts gets at most `attempts` of them, so
    /// that giving up happens within a search.
    pub(super) fn new(attempts: u32, without: Without) -> Self {
        let within = |plan: Plan| {
            let mut plan = without.plan(plan);
            for step in &mut plan.steps {
                for limit in [&mut step.attempts, &mut step.undo_attempts] {
                    *limit = limit.map(|limit| limit.min(attempts));
                }
            }
            plan
        };
        Self {
            place: within(orchestrator::domain::PLACE_ORDER.plan()),
            undo: within(orchestrator::domain::UNDO_ORDER.plan()),
            without,
        }
    }

    pub(super) fn of(&self, saga: Saga) -> &Plan {
        match saga {
            Saga::Place => &self.place,
            Saga::Undo => &self.undo,
        }
    }
}

impl Sagas {
    /// Returns the sagas that were started.
    pub fn started(&self) -> impl Iterator<Item = (Saga, &State)> {
        let both = [(Saga::Place, &self.place), (Saga::Undo, &self.undo)];
        both.into_iter()
            .filter_map(|(saga, state)| Some((saga, &**state.as_ref()?)))
    }

    /// Returns whether a saga goes on, by itself or by an operator.
    pub fn go_on(&self) -> bool {
        self.started().any(|(_, state)| !state.is_ended())
    }

    pub(super) fn get(&self, saga: Saga) -> Option<&State> {
        match saga {
            Saga::Place => self.place.as_deref(),
            Saga::Undo => self.undo.as_deref(),
        }
    }

    /// Starts a saga, unless it was started before. Returns the key of the command that it sends.
    pub(super) fn start(&mut self, saga: Saga, plans: &Plans) -> Option<Key> {
        if self.get(saga).is_some() {
            return None;
        }
        self.set(saga, State::new(plans.of(saga)));
        self.hears(saga, Input::Start, plans)
    }

    /// Gives an input to a saga that was started. Returns the key of the command that it sends.
    pub(super) fn hears(&mut self, saga: Saga, input: Input, plans: &Plans) -> Option<Key> {
        let (state, plan) = (self.get(saga)?, plans.of(saga));
        let input = plans.without.saga_hears(plan, state, input);
        // An operator's action that comes too late changes nothing.
        let decision = transition(plan, state, &input).ok()?;
        if decision.state != *state {
            self.set(saga, shortened(plan, decision.state));
        }
        match decision.effect? {
            Effect::Send {
                step, direction, ..
            } => Some(Key {
                saga,
                step,
                direction,
            }),
            Effect::Stuck | Effect::End(_) => None,
        }
    }

    fn set(&mut self, saga: Saga, state: State) {
        let state = Some(Arc::new(state));
        match saga {
            Saga::Place => self.place = state,
            Saga::Undo => self.undo = state,
        }
    }
}

/// Removes from a state what decides nothing: the text of an error, and the number of attempts where there is no limit.
/// Worlds that differ only in those are one.
fn shortened(plan: &Plan, mut state: State) -> State {
    state.error = None;
    let step = &plan.steps[state.step];
    let limit = match state.direction {
        Direction::Do => step.attempts,
        Direction::Undo | Direction::Settle => step.undo_attempts,
    };
    if limit.is_none() {
        state.attempt = 1;
    }
    state
}

/// Returns the timeout of the command that a saga waits for.
pub(super) fn timed_out(state: &State) -> Input {
    Input::TimedOut {
        step: state.step,
        direction: state.direction,
        attempt: state.attempt,
    }
}

/// Returns an operator, whose name decides nothing.
pub(super) fn somebody() -> By {
    By {
        operator: String::new(),
        note: String::new(),
    }
}
