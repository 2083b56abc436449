//! Where a saga stands, and what can happen to it.

use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// Where a saga stands. All of it: there is nothing else to know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// Whether it goes on by itself.
    pub phase: Phase,
    /// The step in hand. One at a time.
    pub at: usize,
    /// What the step in hand was asked.
    pub asked: Direction,
    /// How often; 0 before the start. Begins at 1 again with each step, and when an operator resumes.
    pub attempt: u32,
    /// What became of each step.
    pub marks: Vec<Mark>,
    /// Why it is being undone. `None` exactly while it goes forward.
    pub cause: Option<Cause>,
    /// The operator who skipped the step in hand.
    pub skipped_by: Option<By>,
    /// The operator who abandoned the saga: all that can be written off is, from then on.
    pub abandoned_by: Option<By>,
    /// Why it is stuck.
    pub error: Option<String>,
}

/// Whether a saga goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It waits for the answer of the step in hand, or for its timeout.
    Active,
    /// It waits for an operator, or for the answer after all.
    Stuck,
    /// It is over.
    Ended(End),
}

/// How a saga ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// Every step was done.
    Completed,
    /// Every step that was done, or may have been, is undone.
    Compensated,
    /// An operator had what remained written off.
    Abandoned,
}

/// What a step is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Its action.
    Do,
    /// Its compensation.
    Undo,
    /// Its settlement.
    Settle,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Its command was never written.
    Waiting,
    /// Its command was written; nobody knows what came of it.
    Sent,
    /// It is done.
    Done(Answer),
    /// It is not done, and never will be: a refusal is a promise.
    Refused(Answer),
    /// It is undone, or there was nothing to undo.
    Undone(Answer),
    /// It is written off, or was undone before it could be.
    Settled(Answer),
    /// An operator went on without it.
    Skipped,
}

/// What a step answered, for the payloads of later steps, and for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// What: `payment.declined`.
    pub kind: String,
    /// Why: `insufficient_funds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why a saga is undone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A step was refused.
    Refused {
        /// Which.
        step: usize,
    },
    /// A step was asked for too often, without an answer.
    TimedOut {
        /// Which.
        step: usize,
    },
    /// Whoever started it does not want it any more.
    Cancelled {
        /// The step that was in hand then.
        step: usize,
        /// Why.
        reason: String,
    },
}

/// An operator, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct By {
    /// Who.
    pub operator: String,
    /// Why, and what was done instead.
    pub note: String,
}

/// What can happen to a saga.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// It begins.
    Start,
    /// A step answered.
    Reply {
        /// Which.
        step: usize,
        /// What it had been asked.
        asked: Direction,
        /// What became of that.
        outcome: Outcome,
        /// What it said.
        answer: Answer,
    },
    /// The answer to this attempt is overdue.
    TimedOut {
        /// The step in hand.
        step: usize,
        /// What it was asked.
        asked: Direction,
        /// Which time.
        attempt: u32,
    },
    /// Whoever started it does not want it any more.
    Cancel {
        /// Why.
        reason: String,
    },
    /// An operator decided.
    Operator {
        /// What.
        action: Action,
        /// Who, and why.
        by: By,
    },
}

/// What comes in from outside about a saga: an [`Input`] that names its step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A step answered.
    Reply {
        /// Which.
        step: String,
        /// What it had been asked.
        asked: Direction,
        /// What became of that.
        outcome: Outcome,
        /// What it said.
        answer: Answer,
    },
    /// Whoever started it does not want it any more.
    Cancel {
        /// Why.
        reason: String,
    },
}

impl Heard {
    /// What it is to a saga of this plan; `None`, if that has no such step.
    pub fn input(&self, plan: &Plan) -> Option<Input> {
        match self.clone() {
            Self::Reply {
                step,
                asked,
                outcome,
                answer,
            } => Some(Input::Reply {
                step: plan.step(&step)?,
                asked,
                outcome,
                answer,
            }),
            Self::Cancel { reason } => Some(Input::Cancel { reason }),
        }
    }
}

/// What became of what a step was asked. Never "I could not just now": who cannot answer is silent, and is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is so, and stays so.
    Done,
    /// It is not so, and never will be.
    Refused,
}

/// What an operator can do to a stuck saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Ask again, from the first attempt on.
    Resume,
    /// Have the step in hand written off, and go on.
    Skip,
    /// Have all that remains written off.
    Abandon,
}

impl State {
    /// A saga that has not started.
    pub fn new(plan: &Plan) -> Self {
        let before = |action: bool| {
            if action {
                Mark::Waiting
            } else {
                Mark::Done(Answer::new("before"))
            }
        };
        Self {
            phase: Phase::Active,
            at: 0,
            asked: Direction::Do,
            attempt: 0,
            marks: plan.steps.iter().map(|step| before(step.action)).collect(),
            cause: None,
            skipped_by: None,
            abandoned_by: None,
            error: None,
        }
    }

    /// Whether it is over.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// In one word: running, compensating, stuck, completed, compensated, abandoned.
    pub fn name(&self) -> &'static str {
        match (self.phase, &self.cause) {
            (Phase::Active, None) => "running",
            (Phase::Active, Some(_)) => "compensating",
            (Phase::Stuck, _) => "stuck",
            (Phase::Ended(end), _) => end.name(),
        }
    }

    /// The operator who writes the step in hand off.
    pub fn writes_off(&self) -> Option<&By> {
        self.skipped_by.as_ref().or(self.abandoned_by.as_ref())
    }

    /// Whether it fits its plan: a stored state may be anything.
    pub(super) fn fits(&self, plan: &Plan) -> bool {
        let steps = plan.steps.len();
        let cause = self.cause.as_ref().is_none_or(|cause| cause.step() < steps);
        let can_be_asked = |asked: Direction| {
            plan.steps.get(self.at).is_some_and(|step| match asked {
                Direction::Do => step.action,
                Direction::Undo => step.compensation,
                Direction::Settle => step.settlement,
            })
        };
        self.marks.len() == steps
            && cause
            && (*self == Self::new(plan) || self.attempt > 0 && can_be_asked(self.asked))
    }
}

impl End {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Direction {
    /// In one word, as in a command's idempotency key.
    pub fn name(self) -> &'static str {
        match self {
            Self::Do => "do",
            Self::Undo => "undo",
            Self::Settle => "settle",
        }
    }
}

impl std::str::FromStr for Direction {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        [Self::Do, Self::Undo, Self::Settle]
            .into_iter()
            .find(|direction| direction.name() == name)
            .ok_or(())
    }
}

impl Action {
    /// In one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Skip => "skip",
            Self::Abandon => "abandon",
        }
    }
}

impl Mark {
    /// In one word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Sent => "sent",
            Self::Done(_) => "done",
            Self::Refused(_) => "refused",
            Self::Undone(_) => "undone",
            Self::Settled(_) => "settled",
            Self::Skipped => "skipped",
        }
    }

    /// What was answered, if something was.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Done(answer)
            | Self::Refused(answer)
            | Self::Undone(answer)
            | Self::Settled(answer) => Some(answer),
            Self::Waiting | Self::Sent | Self::Skipped => None,
        }
    }
}

impl Answer {
    /// An answer that says no more than what it is.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            detail: None,
        }
    }

    /// With the reason.
    #[must_use]
    pub fn because(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.detail {
            Some(detail) => write!(f, "{} ({detail})", self.kind),
            None => f.write_str(&self.kind),
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { .. } => f.write_str("refused"),
            Self::TimedOut { .. } => f.write_str("no answer"),
            Self::Cancelled { reason, .. } => write!(f, "cancelled ({reason})"),
        }
    }
}

impl Cause {
    /// The step that it comes from.
    pub fn step(&self) -> usize {
        match self {
            Self::Refused { step } | Self::TimedOut { step } | Self::Cancelled { step, .. } => {
                *step
            }
        }
    }
}
