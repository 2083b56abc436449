//! All decisions about a saga: [`transition`], pure and total. The executor only carries them out.
//!
//! `go_back` begins the compensation. A saga turns around for one of three reasons:
//!
//! - a step up to and including the pivot was refused;
//! - the last attempt of a step before the pivot had no reply;
//! - the saga was cancelled before the pivot's command was written.

use super::{
    plan::Plan,
    state::{Action, By, Cause, Direction, End, Input, Outcome, Phase, State, Status},
};

/// The effect of an input. There is at most one, because there is one current step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A command is sent, and its reply awaited.
    Send {
        /// The index of the step.
        step: usize,
        /// The command's direction.
        direction: Direction,
        /// The attempt; 1 is the first.
        attempt: u32,
    },
    /// The saga waits for an operator.
    Stuck,
    /// The saga has ended.
    End(End),
}

/// The decision of [`transition`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state after the input.
    pub state: State,
    /// The effect to carry out; `None` if the input was ignored.
    pub effect: Option<Effect>,
}

/// The operator's action is not possible now. Nothing was changed. Respond with 409.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only a stuck saga takes an operator's action: this one is {state}")]
pub struct NotStuck {
    /// The saga's state in one word.
    pub state: &'static str,
}

/// Decides what an input leads to.
///
/// Replies may come late, twice and in any order. Only a reply to the current command has an effect; every other one
/// belongs to the past and is ignored. Only an operator's action can fail.
pub fn transition(plan: &Plan, state: &State, input: &Input) -> Result<Decision, NotStuck> {
    let ignore = || {
        Ok(Decision {
            state: state.clone(),
            effect: None,
        })
    };
    let mut next = state.clone();
    let forward = state.cause.is_none();
    match (state.phase, input) {
        // Active, Ended: an operator's action is an error. Ended: nothing else has an effect.
        (Phase::Ended(_) | Phase::Active, Input::Operator { .. }) => Err(NotStuck {
            state: state.name(),
        }),
        (Phase::Ended(_), _) => ignore(),

        // (not started) -> Active
        (_, Input::Start) if state.attempt == 0 => Ok(go_forward(plan, next, 0)),
        (_, Input::Start) => ignore(),

        // Active, Stuck -> Active, Ended: the reply to the current command, even if it comes late.
        (
            Phase::Active | Phase::Stuck,
            Input::Reply {
                step,
                direction,
                outcome,
                answer,
            },
        ) if (*step, *direction) == (state.step, state.direction) && state.attempt > 0 => {
            match (outcome, direction) {
                (Outcome::Done, Direction::Do) => {
                    Ok(advance(plan, next, Status::Done(answer.clone())))
                }
                (Outcome::Done, Direction::Undo) => {
                    Ok(advance(plan, next, Status::Undone(answer.clone())))
                }
                (Outcome::Done, Direction::Settle) => {
                    Ok(advance(plan, next, Status::Settled(answer.clone())))
                }
                // A refusal up to the pivot turns the saga around.
                (Outcome::Refused, Direction::Do) if forward && plan.may_be_refused(*step) => {
                    next.statuses[*step] = Status::Refused(answer.clone());
                    next.cause = Some(Cause::Refused { step: *step });
                    Ok(go_back(plan, next, *step))
                }
                // Active -> Stuck: a command was refused that must not be.
                (Outcome::Refused, _) if state.phase == Phase::Active => {
                    Ok(stuck(next, format!("refused: {answer}")))
                }
                (Outcome::Refused, _) => ignore(),
            }
        }
        (_, Input::Reply { .. }) => ignore(),

        // Active -> Active, Stuck: a timeout.
        (
            Phase::Active,
            Input::TimedOut {
                step,
                direction,
                attempt,
            },
        ) if (*step, *direction, *attempt) == (state.step, state.direction, state.attempt)
            && state.attempt > 0 =>
        {
            let shape = &plan.steps[*step];
            let limit = match direction {
                Direction::Do => shape.attempts,
                Direction::Undo | Direction::Settle => shape.undo_attempts,
            };
            if limit.is_none_or(|limit| *attempt < limit) {
                return Ok(send(next, *step, *direction, attempt.saturating_add(1)));
            }
            if forward && *direction == Direction::Do && plan.is_before_pivot(*step) {
                // The step may have been done, so it is undone with the others.
                next.cause = Some(Cause::TimedOut { step: *step });
                return Ok(go_back(plan, next, step + 1));
            }
            Ok(stuck(next, format!("no answer to {attempt} attempts")))
        }
        (Phase::Active | Phase::Stuck, Input::TimedOut { .. }) => ignore(),

        // Active -> Active, compensating: a cancel, until the pivot's command is written.
        (Phase::Active, Input::Cancel { reason })
            if forward && plan.is_before_pivot(state.step) && state.attempt > 0 =>
        {
            next.cause = Some(Cause::Cancelled {
                step: state.step,
                reason: reason.clone(),
            });
            Ok(go_back(plan, next, state.step + 1))
        }
        (Phase::Active | Phase::Stuck, Input::Cancel { .. }) => ignore(),

        // Stuck -> Active
        (Phase::Stuck, Input::Operator { action, by }) => Ok(decided(plan, next, *action, by)),
    }
}

/// Carries out an operator's action on a stuck saga.
fn decided(plan: &Plan, mut state: State, action: Action, by: &By) -> Decision {
    state.phase = Phase::Active;
    state.error = None;
    match action {
        Action::Resume => {
            let (step, direction) = (state.step, state.direction);
            return send(state, step, direction, 1);
        }
        Action::Skip => state.skipped_by = Some(by.clone()),
        Action::Abandon => state.abandoned_by = Some(by.clone()),
    }
    let step = state.step;
    if plan.steps[step].settlement && state.direction != Direction::Settle {
        return send(state, step, Direction::Settle, 1);
    }
    // The participant cannot write it off: only the operator knows of it.
    advance(plan, state, Status::Skipped)
}

/// Ends the current step with this status, and goes on to the next one.
fn advance(plan: &Plan, mut state: State, status: Status) -> Decision {
    let step = state.step;
    state.statuses[step] = status;
    state.phase = Phase::Active;
    state.skipped_by = None;
    state.error = None;
    if state.cause.is_none() {
        go_forward(plan, state, step + 1)
    } else {
        go_back(plan, state, step)
    }
}

/// Starts the first step from `from` on that has an action; completes the saga if there is none.
fn go_forward(plan: &Plan, mut state: State, from: usize) -> Decision {
    let Some(step) = (from..plan.steps.len()).find(|step| plan.steps[*step].action) else {
        return end(state, End::Completed);
    };
    state.statuses[step] = Status::Sent;
    let direction = next_direction(plan, &state, step, Direction::Do);
    send(state, step, direction, 1)
}

/// Compensates the last step below `below` that was done, or may have been; ends the saga if there is none.
fn go_back(plan: &Plan, state: State, below: usize) -> Decision {
    let Some(step) = (0..below)
        .rev()
        .find(|step| is_to_undo(plan, &state, *step))
    else {
        return end(state, End::Compensated);
    };
    let direction = next_direction(plan, &state, step, Direction::Undo);
    send(state, step, direction, 1)
}

/// Returns true if a step has a compensation, and was done or may have been.
pub(super) fn is_to_undo(plan: &Plan, state: &State, step: usize) -> bool {
    plan.steps[step].compensation && matches!(state.statuses[step], Status::Sent | Status::Done(_))
}

/// Returns the direction of a step's next command: `wanted`, or the settlement once the saga is abandoned and the step
/// has one.
pub(super) fn next_direction(
    plan: &Plan,
    state: &State,
    step: usize,
    wanted: Direction,
) -> Direction {
    if state.abandoned_by.is_some() && plan.steps[step].settlement {
        Direction::Settle
    } else {
        wanted
    }
}

fn send(mut state: State, step: usize, direction: Direction, attempt: u32) -> Decision {
    (state.step, state.direction, state.attempt) = (step, direction, attempt);
    Decision {
        state,
        effect: Some(Effect::Send {
            step,
            direction,
            attempt,
        }),
    }
}

fn stuck(mut state: State, error: String) -> Decision {
    state.phase = Phase::Stuck;
    state.error = Some(error);
    Decision {
        state,
        effect: Some(Effect::Stuck),
    }
}

fn end(mut state: State, end: End) -> Decision {
    let end = if state.abandoned_by.is_some() {
        End::Abandoned
    } else {
        end
    };
    state.phase = Phase::Ended(end);
    Decision {
        state,
        effect: Some(Effect::End(end)),
    }
}
