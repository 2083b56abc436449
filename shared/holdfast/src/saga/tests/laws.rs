//! The laws of sagas, checked by a watcher that sees inputs and effects, and keeps records of its own.

use crate::saga::{
    Action, Decision, Direction, Effect, End, Input, NotStuck, Outcome, Phase, Plan, State,
};

/// A law that a transition may break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    /// An ended saga stays as it is.
    EndedIsAbsorbing,
    /// A saga starts once.
    StartsOnce,
    /// Operators' actions are for stuck sagas only, and each of them has an effect there.
    OperatorsAreForTheStuck,
    /// The reply to the current command has an effect once, even if it comes late; no other reply has one.
    OnlyTheAwaitedAnswerCounts,
    /// The timeout of the current attempt has an effect; no other timeout has one.
    OnlyTheAwaitedTimeoutCounts,
    /// A cancel has an effect until the pivot's command is written.
    CancelCountsUpToThePivot,
    /// A saga turns around at most once, with a cause, which it keeps.
    TurnsAround,
    /// The state changes exactly if there is an effect.
    ChangesHaveEffects,
    /// A command that is sent is in the plan.
    AsksWhatThereIs,
    /// No command is sent more often than the plan allows.
    AsksNoMoreThanAllowed,
    /// Actions run upwards, compensations downwards, and attempts count up.
    GoesInOrder,
    /// A step is undone, or written off in place of that, only if its command was written, it was not refused, and it
    /// is not undone yet.
    UndoesWhatMayHaveBeenDone,
    /// Once the pivot's command is written nothing is undone, unless the pivot is refused.
    ThePivotHolds,
    /// At the end every step is done, or no effect of any step is left.
    EndsWhole,
    /// A saga gets stuck only where it can go neither forward nor back, and says why.
    IsStuckWithReason,
    /// A step that an operator skips or abandons is settled if it has a settlement.
    SettlesWhatItCan,
    /// Every state has a path to an end, and a started saga ends if every command is carried out.
    CanEnd,
}

/// The status of a step, as far as the watcher knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Seen {
    Nothing,
    Written,
    Done,
    Refused,
    Undone,
    Settled,
    Skipped,
}

/// The watcher's records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watcher {
    /// The current command: step, direction and attempt. `None` before the start.
    pub(super) command: Option<(usize, Direction, u32)>,
    steps: Vec<Seen>,
    goes_back: bool,
    abandoned: bool,
    pub(super) stuck: bool,
    pub(super) end: Option<End>,
}

impl Watcher {
    pub(super) fn new(plan: &Plan) -> Self {
        let before = plan.steps.iter().map(|step| {
            if step.action {
                Seen::Nothing
            } else {
                Seen::Done
            }
        });
        Self {
            command: None,
            steps: before.collect(),
            goes_back: false,
            abandoned: false,
            stuck: false,
            end: None,
        }
    }

    /// Checks one transition. Returns the records after it, or the law that it broke.
    pub(super) fn watch(
        &self,
        plan: &Plan,
        state: &State,
        input: &Input,
        decided: &Result<Decision, NotStuck>,
    ) -> Result<Self, Law> {
        let Ok(Decision {
            state: after,
            effect,
        }) = decided
        else {
            let is_operator = matches!(input, Input::Operator { .. });
            return require(is_operator && !self.stuck, Law::OperatorsAreForTheStuck)
                .map(|()| self.clone());
        };
        let (counts, law) = self.counts(plan, input);
        require(counts == (after != state || effect.is_some()), law)?;
        require(
            (after != state) == effect.is_some(),
            Law::ChangesHaveEffects,
        )?;
        let mut next = self.clone();
        if counts {
            next.hear(plan, input);
        }
        let undoes = matches!(
            effect,
            Some(Effect::Send {
                direction: Direction::Undo,
                ..
            })
        ) || after.cause.is_some();
        require(!undoes || next.may_go_back(plan), Law::ThePivotHolds)?;
        require(after.cause.is_some() == next.goes_back, Law::TurnsAround)?;
        require(
            after.cause == state.cause || state.cause.is_none(),
            Law::TurnsAround,
        )?;
        let Some(effect) = *effect else {
            return Ok(next);
        };
        self.has_effect(&mut next, plan, input, effect)?;
        let phase = match (next.stuck, next.end) {
            (_, Some(end)) => Phase::Ended(end),
            (true, None) => Phase::Stuck,
            (false, None) => Phase::Active,
        };
        require(after.phase == phase, Law::ChangesHaveEffects)?;
        require(after.error.is_some() == next.stuck, Law::IsStuckWithReason)?;
        Ok(next)
    }

    /// Checks the effect of an input, and records it in `next`. `self` is from before the input.
    fn has_effect(
        &self,
        next: &mut Self,
        plan: &Plan,
        input: &Input,
        effect: Effect,
    ) -> Result<(), Law> {
        match effect {
            Effect::Send {
                step,
                direction,
                attempt,
            } => {
                self.sends(next, plan, input, (step, direction, attempt))?;
                if !next.goes_back && next.steps[step] == Seen::Nothing {
                    next.steps[step] = Seen::Written;
                }
                next.command = Some((step, direction, attempt));
                next.stuck = false;
            }
            Effect::Stuck => {
                self.gets_stuck(plan, input)?;
                next.stuck = true;
            }
            Effect::End(end) => {
                next.ends(plan, end)?;
                next.end = Some(end);
                next.stuck = false;
            }
        }
        Ok(())
    }

    /// Returns true if an input must have an effect, false if it must have none, and the law that says so.
    fn counts(&self, plan: &Plan, input: &Input) -> (bool, Law) {
        if self.end.is_some() {
            return (false, Law::EndedIsAbsorbing);
        }
        let awaited = |step, direction| {
            self.command
                .is_some_and(|(s, d, _)| (s, d) == (step, direction))
        };
        match input {
            Input::Start => (self.command.is_none(), Law::StartsOnce),
            Input::Reply {
                step,
                direction,
                outcome,
                ..
            } => {
                // A second refusal of a stuck step is no news.
                let is_news = !self.stuck || *outcome == Outcome::Done;
                (
                    awaited(*step, *direction) && is_news,
                    Law::OnlyTheAwaitedAnswerCounts,
                )
            }
            Input::TimedOut {
                step,
                direction,
                attempt,
            } => {
                let awaited = self.command == Some((*step, *direction, *attempt));
                (awaited && !self.stuck, Law::OnlyTheAwaitedTimeoutCounts)
            }
            Input::Cancel { .. } => {
                let is_before = |step| plan.pivot.is_none_or(|pivot| step < pivot);
                let in_hand = self.command.is_some_and(|(step, ..)| is_before(step));
                (in_hand && !self.goes_back, Law::CancelCountsUpToThePivot)
            }
            Input::Operator { .. } => (self.stuck, Law::OperatorsAreForTheStuck),
        }
    }

    /// Records an input that has an effect.
    fn hear(&mut self, plan: &Plan, input: &Input) {
        match input {
            Input::Start => {}
            Input::Reply {
                step,
                direction,
                outcome,
                ..
            } => match (outcome, direction) {
                (Outcome::Done, Direction::Do) => self.steps[*step] = Seen::Done,
                (Outcome::Done, Direction::Undo) => self.steps[*step] = Seen::Undone,
                (Outcome::Done, Direction::Settle) => self.steps[*step] = Seen::Settled,
                (Outcome::Refused, Direction::Do)
                    if plan.pivot.is_none_or(|pivot| *step <= pivot) =>
                {
                    self.steps[*step] = Seen::Refused;
                    self.goes_back = true;
                }
                (Outcome::Refused, _) => {}
            },
            Input::TimedOut {
                step,
                direction,
                attempt,
            } => {
                let given_up = plan.steps[*step]
                    .attempts
                    .is_some_and(|limit| *attempt >= limit);
                let is_before = plan.pivot.is_none_or(|pivot| *step < pivot);
                self.goes_back |= *direction == Direction::Do && given_up && is_before;
            }
            Input::Cancel { .. } => self.goes_back = true,
            Input::Operator { action, .. } => {
                self.abandoned |= *action == Action::Abandon;
                if let (Some((step, ..)), None) = (self.command, self.settles(plan, *action)) {
                    self.steps[step] = Seen::Skipped;
                }
            }
        }
    }

    /// Returns the current step if an operator's action sends it a command, and `None` if the action passes over it.
    fn settles(&self, plan: &Plan, action: Action) -> Option<usize> {
        let (step, direction, _) = self.command?;
        let can = plan.steps[step].settlement && direction != Direction::Settle;
        (can || action == Action::Resume).then_some(step)
    }

    /// Checks a command that is written. `self` is from before the input, `next` from after it.
    fn sends(
        &self,
        next: &Self,
        plan: &Plan,
        input: &Input,
        (step, direction, attempt): (usize, Direction, u32),
    ) -> Result<(), Law> {
        let shape = &plan.steps[step];
        let (there_is, limit) = match direction {
            Direction::Do => (shape.action, shape.attempts),
            Direction::Undo => (shape.compensation, shape.undo_attempts),
            Direction::Settle => (shape.settlement, shape.undo_attempts),
        };
        require(there_is, Law::AsksWhatThereIs)?;
        require(
            limit.is_none_or(|limit| attempt <= limit),
            Law::AsksNoMoreThanAllowed,
        )?;
        if next.goes_back {
            require(next.is_to_undo(plan, step), Law::UndoesWhatMayHaveBeenDone)?;
        }
        self.is_in_order(next, plan, input, (step, direction, attempt))
    }

    /// Checks that a command is the one that comes after the current command and the input.
    fn is_in_order(
        &self,
        next: &Self,
        plan: &Plan,
        input: &Input,
        (step, direction, attempt): (usize, Direction, u32),
    ) -> Result<(), Law> {
        let operator = match input {
            Input::Operator { action, .. } => Some(*action),
            _ => None,
        };
        let in_turn = match (
            next.goes_back,
            next.abandoned && plan.steps[step].settlement,
        ) {
            (_, true) => Direction::Settle,
            (false, false) => Direction::Do,
            (true, false) => Direction::Undo,
        };
        // The step before, and its command; `None` at the start.
        let Some((from, was_direction, was_attempt)) = self.command else {
            let first = plan.steps.iter().position(|step| step.action);
            return require(
                Some(step) == first && direction == Direction::Do && attempt == 1,
                Law::GoesInOrder,
            );
        };
        let turns = next.goes_back && !self.goes_back;
        let writes_off = matches!(operator, Some(Action::Skip | Action::Abandon));
        if writes_off && self.settles(plan, Action::Skip).is_some() {
            return require(
                (step, direction, attempt) == (from, Direction::Settle, 1),
                Law::SettlesWhatItCan,
            );
        }
        if (step, direction) == (from, was_direction) {
            let expected = match input {
                Input::TimedOut { .. } => was_attempt + 1,
                Input::Operator {
                    action: Action::Resume,
                    ..
                } => 1,
                _ => return Err(Law::GoesInOrder),
            };
            return require(attempt == expected, Law::GoesInOrder);
        }
        let goes_on = next.goes_on(plan, from, turns, step);
        require(goes_on && attempt == 1, Law::GoesInOrder)?;
        let law = if next.abandoned {
            Law::SettlesWhatItCan
        } else {
            Law::GoesInOrder
        };
        require(direction == in_turn, law)
    }

    /// Returns true if nothing has to be done between two steps. `turns` if the saga turned around at the first.
    fn goes_on(&self, plan: &Plan, from: usize, turns: bool, step: usize) -> bool {
        if self.goes_back {
            let below = if turns { from + 1 } else { from };
            step < below && (step + 1..below).all(|between| !self.is_to_undo(plan, between))
        } else {
            step > from
                && plan.steps[from + 1..step]
                    .iter()
                    .all(|between| !between.action)
        }
    }

    /// Returns true if the pivot's command was not written yet, or was refused.
    fn may_go_back(&self, plan: &Plan) -> bool {
        plan.pivot
            .is_none_or(|pivot| matches!(self.steps[pivot], Seen::Nothing | Seen::Refused))
    }

    fn is_to_undo(&self, plan: &Plan, step: usize) -> bool {
        plan.steps[step].compensation && matches!(self.steps[step], Seen::Written | Seen::Done)
    }

    fn gets_stuck(&self, plan: &Plan, input: &Input) -> Result<(), Law> {
        let is_pivot = self
            .command
            .is_some_and(|(step, ..)| plan.pivot == Some(step));
        let out_of = match input {
            Input::Reply { outcome, .. } => *outcome == Outcome::Refused,
            Input::TimedOut {
                step,
                direction,
                attempt,
            } => {
                let shape = &plan.steps[*step];
                let limit = if *direction == Direction::Do {
                    shape.attempts
                } else {
                    shape.undo_attempts
                };
                limit.is_some_and(|limit| *attempt >= limit)
            }
            _ => false,
        };
        require(
            out_of && (self.goes_back || !is_pivot),
            Law::IsStuckWithReason,
        )
    }

    fn ends(&self, plan: &Plan, end: End) -> Result<(), Law> {
        let whole = if self.goes_back {
            (0..plan.steps.len()).all(|step| !self.is_to_undo(plan, step))
        } else {
            self.steps
                .iter()
                .all(|seen| matches!(seen, Seen::Done | Seen::Settled | Seen::Skipped))
        };
        let how = match (self.abandoned, self.goes_back) {
            (true, _) => End::Abandoned,
            (false, false) => End::Completed,
            (false, true) => End::Compensated,
        };
        require(whole && end == how, Law::EndsWhole)
    }
}

fn require(holds: bool, law: Law) -> Result<(), Law> {
    if holds { Ok(()) } else { Err(law) }
}
