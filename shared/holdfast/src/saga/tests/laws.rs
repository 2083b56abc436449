//! What must hold, told by a watcher who sees what goes in and what comes out, and keeps books of its own.

use crate::saga::{
    Action, Decision, Direction, Effect, End, Input, NotStuck, Outcome, Phase, Plan, State,
};

/// What was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Law {
    /// What is over stays as it is.
    EndedIsAbsorbing,
    /// It starts once.
    StartsOnce,
    /// Only a saga that is stuck needs an operator; each of whose actions then does something.
    OperatorsAreForTheStuck,
    /// An answer counts once, if it is the one to what was asked last; and then it counts, also if it comes after all.
    OnlyTheAwaitedAnswerCounts,
    /// A timeout counts if it is the one of what was asked last.
    OnlyTheAwaitedTimeoutCounts,
    /// A cancel counts until the pivot's command is written.
    CancelCountsUpToThePivot,
    /// It turns around once, for a reason, and keeps it in mind.
    TurnsAround,
    /// Nothing changes without consequence, and nothing follows without a change.
    ChangesHaveEffects,
    /// What is asked is in the plan.
    AsksWhatThereIs,
    /// No more often than allowed.
    AsksNoMoreThanAllowed,
    /// Actions go up, compensations go down, attempts are counted.
    GoesInOrder,
    /// Undone, or written off in place of that, is only what was asked for, was not refused, and is not undone already.
    UndoesWhatMayHaveBeenDone,
    /// Once its command is written nothing is undone, unless it was refused.
    ThePivotHolds,
    /// At the end all is done, or nothing is left of it.
    EndsWhole,
    /// It gets stuck where it cannot go on or back, and says why.
    IsStuckWithReason,
    /// What an operator writes off is settled by whoever can settle it.
    SettlesWhatItCan,
    /// Wherever it is, it can come to its end: by itself, unless it is stuck.
    CanEnd,
}

/// What became of a step, as far as the watcher knows.
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

/// The watcher's books.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Watcher {
    /// What was asked last, and is not answered.
    pub(super) asked: Option<(usize, Direction, u32)>,
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
            asked: None,
            steps: before.collect(),
            goes_back: false,
            abandoned: false,
            stuck: false,
            end: None,
        }
    }

    /// Looks at what became of `state` by `input`; the books as they are then, or the law that was broken.
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
                asked: Direction::Undo,
                ..
            })
        ) || after.cause.is_some();
        require(!undoes || next.may_go_back(plan), Law::ThePivotHolds)?;
        require(after.cause.is_some() == next.goes_back, Law::TurnsAround)?;
        require(
            after.cause == state.cause || state.cause.is_none(),
            Law::TurnsAround,
        )?;
        match *effect {
            None => return Ok(next),
            Some(Effect::Send {
                step,
                asked,
                attempt,
            }) => {
                self.sends(&next, plan, input, (step, asked, attempt))?;
                if !next.goes_back && next.steps[step] == Seen::Nothing {
                    next.steps[step] = Seen::Written;
                }
                next.asked = Some((step, asked, attempt));
                next.stuck = false;
            }
            Some(Effect::Stuck) => {
                self.gets_stuck(plan, input)?;
                next.stuck = true;
            }
            Some(Effect::End(end)) => {
                next.ends(plan, end)?;
                next.end = Some(end);
                next.stuck = false;
            }
        }
        let phase = match (next.stuck, next.end) {
            (_, Some(end)) => Phase::Ended(end),
            (true, None) => Phase::Stuck,
            (false, None) => Phase::Active,
        };
        require(after.phase == phase, Law::ChangesHaveEffects)?;
        require(after.error.is_some() == next.stuck, Law::IsStuckWithReason)?;
        Ok(next)
    }

    /// Whether an input must have an effect: if not, it must have none. And the law that says so.
    fn counts(&self, plan: &Plan, input: &Input) -> (bool, Law) {
        if self.end.is_some() {
            return (false, Law::EndedIsAbsorbing);
        }
        let awaited = |step, asked| self.asked.is_some_and(|(s, a, _)| (s, a) == (step, asked));
        match input {
            Input::Start => (self.asked.is_none(), Law::StartsOnce),
            Input::Reply {
                step,
                asked,
                outcome,
                ..
            } => {
                // A refusal of a step that is stuck says nothing new.
                let is_news = !self.stuck || *outcome == Outcome::Done;
                (
                    awaited(*step, *asked) && is_news,
                    Law::OnlyTheAwaitedAnswerCounts,
                )
            }
            Input::TimedOut {
                step,
                asked,
                attempt,
            } => {
                let awaited = self.asked == Some((*step, *asked, *attempt));
                (awaited && !self.stuck, Law::OnlyTheAwaitedTimeoutCounts)
            }
            Input::Cancel { .. } => {
                let is_before = |step| plan.pivot.is_none_or(|pivot| step < pivot);
                let in_hand = self.asked.is_some_and(|(step, ..)| is_before(step));
                (in_hand && !self.goes_back, Law::CancelCountsUpToThePivot)
            }
            Input::Operator { .. } => (self.stuck, Law::OperatorsAreForTheStuck),
        }
    }

    /// Notes what an input that counts says.
    fn hear(&mut self, plan: &Plan, input: &Input) {
        match input {
            Input::Start => {}
            Input::Reply {
                step,
                asked,
                outcome,
                ..
            } => match (outcome, asked) {
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
                asked,
                attempt,
            } => {
                let given_up = plan.steps[*step]
                    .attempts
                    .is_some_and(|limit| *attempt >= limit);
                let is_before = plan.pivot.is_none_or(|pivot| *step < pivot);
                self.goes_back |= *asked == Direction::Do && given_up && is_before;
            }
            Input::Cancel { .. } => self.goes_back = true,
            Input::Operator { action, .. } => {
                self.abandoned |= *action == Action::Abandon;
                if let (Some((step, ..)), None) = (self.asked, self.settles(plan, *action)) {
                    self.steps[step] = Seen::Skipped;
                }
            }
        }
    }

    /// Which step's settlement an operator's action asks for, if it is not skipped; for resuming, the step in hand's.
    fn settles(&self, plan: &Plan, action: Action) -> Option<usize> {
        let (step, asked, _) = self.asked?;
        let can = plan.steps[step].settlement && asked != Direction::Settle;
        (can || action == Action::Resume).then_some(step)
    }

    /// A command is written. `self` is as it was before the input, `next` has heard it.
    fn sends(
        &self,
        next: &Self,
        plan: &Plan,
        input: &Input,
        (step, asked, attempt): (usize, Direction, u32),
    ) -> Result<(), Law> {
        let shape = &plan.steps[step];
        let (there_is, limit) = match asked {
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
        let operator = match input {
            Input::Operator { action, .. } => Some(*action),
            _ => None,
        };
        let in_turn = match (next.goes_back, next.abandoned && shape.settlement) {
            (_, true) => Direction::Settle,
            (false, false) => Direction::Do,
            (true, false) => Direction::Undo,
        };
        // Where it came from, and whether that is still to be undone.
        let Some((from, was_asked, was_attempt)) = self.asked else {
            let first = plan.steps.iter().position(|step| step.action);
            return require(
                Some(step) == first && asked == Direction::Do && attempt == 1,
                Law::GoesInOrder,
            );
        };
        let turns = next.goes_back && !self.goes_back;
        let writes_off = matches!(operator, Some(Action::Skip | Action::Abandon));
        if writes_off && self.settles(plan, Action::Skip).is_some() {
            return require(
                (step, asked, attempt) == (from, Direction::Settle, 1),
                Law::SettlesWhatItCan,
            );
        }
        if (step, asked) == (from, was_asked) {
            let again = match input {
                Input::TimedOut { .. } => was_attempt + 1,
                Input::Operator {
                    action: Action::Resume,
                    ..
                } => 1,
                _ => return Err(Law::GoesInOrder),
            };
            return require(attempt == again, Law::GoesInOrder);
        }
        let goes_on = if next.goes_back {
            let below = if turns { from + 1 } else { from };
            step < below && (step + 1..below).all(|between| !next.is_to_undo(plan, between))
        } else {
            step > from
                && plan.steps[from + 1..step]
                    .iter()
                    .all(|between| !between.action)
        };
        require(goes_on && attempt == 1, Law::GoesInOrder)?;
        let law = if next.abandoned {
            Law::SettlesWhatItCan
        } else {
            Law::GoesInOrder
        };
        require(asked == in_turn, law)
    }

    /// Whether the pivot's command was not written yet, or was refused.
    fn may_go_back(&self, plan: &Plan) -> bool {
        plan.pivot
            .is_none_or(|pivot| matches!(self.steps[pivot], Seen::Nothing | Seen::Refused))
    }

    fn is_to_undo(&self, plan: &Plan, step: usize) -> bool {
        plan.steps[step].compensation && matches!(self.steps[step], Seen::Written | Seen::Done)
    }

    fn gets_stuck(&self, plan: &Plan, input: &Input) -> Result<(), Law> {
        let is_pivot = self
            .asked
            .is_some_and(|(step, ..)| plan.pivot == Some(step));
        let out_of = match input {
            Input::Reply { outcome, .. } => *outcome == Outcome::Refused,
            Input::TimedOut {
                step,
                asked,
                attempt,
            } => {
                let shape = &plan.steps[*step];
                let limit = if *asked == Direction::Do {
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
