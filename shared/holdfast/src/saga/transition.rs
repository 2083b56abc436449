//! What becomes of a saga: [`transition`], pure and total. The store writes what it decides; nothing else decides anything.

use super::{
    plan::Plan,
    state::{Action, By, Cause, Direction, End, Input, Mark, Outcome, Phase, State},
};

/// What follows from a change. At most one thing: there is one step in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// A command is sent, and its answer awaited.
    Send {
        /// Which step's.
        step: usize,
        /// What it is asked.
        asked: Direction,
        /// Which time.
        attempt: u32,
    },
    /// An operator is called.
    Stuck,
    /// It is over.
    End(End),
}

/// What [`transition`] decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The saga as it is now.
    pub state: State,
    /// What follows.
    pub effect: Option<Effect>,
}

/// An operator cannot do that now. Nothing was changed; the answer is 409.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a saga that is not stuck needs no operator: it is {state}")]
pub struct NotStuck {
    /// What it is instead.
    pub state: &'static str,
}

/// What becomes of a saga by `input`.
///
/// Replies come late, twice and in any order. Only the answer to what the step in hand was asked has an effect; every other
/// one is from the past, and leaves everything as it is. Only an operator's action can fail.
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
        // Ended: nothing happens any more.
        (Phase::Ended(_) | Phase::Active, Input::Operator { .. }) => Err(NotStuck {
            state: state.name(),
        }),
        (Phase::Ended(_), _) => ignore(),

        // (not started) -> Active
        (_, Input::Start) if state.attempt == 0 => Ok(go_forward(plan, next, 0)),
        (_, Input::Start) => ignore(),

        // Active, Stuck -> Active, Ended: the answer to what was asked, also if it comes after all.
        (
            Phase::Active | Phase::Stuck,
            Input::Reply {
                step,
                asked,
                outcome,
                answer,
            },
        ) if (*step, *asked) == (state.at, state.asked) && state.attempt > 0 => {
            match (outcome, asked) {
                (Outcome::Done, Direction::Do) => Ok(on(plan, next, Mark::Done(answer.clone()))),
                (Outcome::Done, Direction::Undo) => {
                    Ok(on(plan, next, Mark::Undone(answer.clone())))
                }
                (Outcome::Done, Direction::Settle) => {
                    Ok(on(plan, next, Mark::Settled(answer.clone())))
                }
                // Refused up to the pivot: it is undone.
                (Outcome::Refused, Direction::Do) if forward && plan.may_be_refused(*step) => {
                    next.marks[*step] = Mark::Refused(answer.clone());
                    next.cause = Some(Cause::Refused { step: *step });
                    Ok(go_back(plan, next, *step))
                }
                // Active -> Stuck: what must not be refused was.
                (Outcome::Refused, _) if state.phase == Phase::Active => {
                    Ok(stuck(next, format!("refused: {answer}")))
                }
                (Outcome::Refused, _) => ignore(),
            }
        }
        (_, Input::Reply { .. }) => ignore(),

        // Active -> Active, Stuck: no answer.
        (
            Phase::Active,
            Input::TimedOut {
                step,
                asked,
                attempt,
            },
        ) if (*step, *asked, *attempt) == (state.at, state.asked, state.attempt)
            && state.attempt > 0 =>
        {
            let shape = &plan.steps[*step];
            let limit = match asked {
                Direction::Do => shape.attempts,
                Direction::Undo | Direction::Settle => shape.undo_attempts,
            };
            if limit.is_none_or(|limit| *attempt < limit) {
                return Ok(send(next, *step, *asked, attempt.saturating_add(1)));
            }
            if forward && *asked == Direction::Do && plan.is_before_pivot(*step) {
                // Nobody knows whether it was done: it is undone with the rest.
                next.cause = Some(Cause::TimedOut { step: *step });
                return Ok(go_back(plan, next, step + 1));
            }
            Ok(stuck(next, format!("no answer to {attempt} attempts")))
        }
        (Phase::Active | Phase::Stuck, Input::TimedOut { .. }) => ignore(),

        // Active -> Active, undoing: while the pivot's command is not written.
        (Phase::Active, Input::Cancel { reason })
            if forward && plan.is_before_pivot(state.at) && state.attempt > 0 =>
        {
            next.cause = Some(Cause::Cancelled {
                step: state.at,
                reason: reason.clone(),
            });
            Ok(go_back(plan, next, state.at + 1))
        }
        (Phase::Active | Phase::Stuck, Input::Cancel { .. }) => ignore(),

        // Stuck -> Active
        (Phase::Stuck, Input::Operator { action, by }) => Ok(decided(plan, next, *action, by)),
    }
}

/// An operator decided about a stuck saga.
fn decided(plan: &Plan, mut state: State, action: Action, by: &By) -> Decision {
    state.phase = Phase::Active;
    state.error = None;
    match action {
        Action::Resume => {
            let (step, asked) = (state.at, state.asked);
            return send(state, step, asked, 1);
        }
        Action::Skip => state.skipped_by = Some(by.clone()),
        Action::Abandon => state.abandoned_by = Some(by.clone()),
    }
    let step = state.at;
    if plan.steps[step].settlement && state.asked != Direction::Settle {
        return send(state, step, Direction::Settle, 1);
    }
    // Nobody writes it off but the operator.
    on(plan, state, Mark::Skipped)
}

/// The step in hand is over: the next one.
fn on(plan: &Plan, mut state: State, mark: Mark) -> Decision {
    let step = state.at;
    state.marks[step] = mark;
    state.phase = Phase::Active;
    state.skipped_by = None;
    state.error = None;
    if state.cause.is_none() {
        go_forward(plan, state, step + 1)
    } else {
        go_back(plan, state, step)
    }
}

/// Does the first step from `from` on that has something to do.
fn go_forward(plan: &Plan, mut state: State, from: usize) -> Decision {
    let Some(step) = (from..plan.steps.len()).find(|step| plan.steps[*step].action) else {
        return end(state, End::Completed);
    };
    state.marks[step] = Mark::Sent;
    let asked = asked_or_written_off(plan, &state, step, Direction::Do);
    send(state, step, asked, 1)
}

/// Undoes the last step below `below` that was done, or may have been.
fn go_back(plan: &Plan, state: State, below: usize) -> Decision {
    let Some(step) = (0..below)
        .rev()
        .find(|step| is_to_undo(plan, &state, *step))
    else {
        return end(state, End::Compensated);
    };
    let asked = asked_or_written_off(plan, &state, step, Direction::Undo);
    send(state, step, asked, 1)
}

/// Whether a step was done, or may have been.
pub(super) fn is_to_undo(plan: &Plan, state: &State, step: usize) -> bool {
    plan.steps[step].compensation && matches!(state.marks[step], Mark::Sent | Mark::Done(_))
}

/// What a step is asked when its turn comes: once the saga is abandoned, to write its part off, if it can.
pub(super) fn asked_or_written_off(
    plan: &Plan,
    state: &State,
    step: usize,
    asked: Direction,
) -> Direction {
    if state.abandoned_by.is_some() && plan.steps[step].settlement {
        Direction::Settle
    } else {
        asked
    }
}

fn send(mut state: State, step: usize, asked: Direction, attempt: u32) -> Decision {
    (state.at, state.asked, state.attempt) = (step, asked, attempt);
    Decision {
        state,
        effect: Some(Effect::Send {
            step,
            asked,
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
