//! The state of a saga, and its inputs.

use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// The whole state of a saga. Nothing else decides what it does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct State {
    /// The phase: whether the saga proceeds without an operator.
    pub phase: Phase,
    /// The index of the current step. One step at a time is in progress.
    #[serde(rename = "at")]
    pub step: usize,
    /// The direction of the current command.
    #[serde(rename = "asked")]
    pub direction: Direction,
    /// The attempts of the current command so far: 0 before the start. Counts from 1 again with each new command, and
    /// when an operator resumes.
    pub attempt: u32,
    /// The status of each step, by its index.
    #[serde(rename = "marks")]
    pub statuses: Vec<Status>,
    /// The cause for which the saga turned around. `None` exactly while the saga goes forward.
    pub cause: Option<Cause>,
    /// The operator who skipped the current step.
    pub skipped_by: Option<By>,
    /// The operator who abandoned the saga. From then on every step that has a settlement is written off.
    pub abandoned_by: Option<By>,
    /// The reason why the saga is stuck; `None` exactly while it is not.
    pub error: Option<String>,
}

/// A saga's phase: whether it proceeds without an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The saga waits for the current step's reply, or for its timeout.
    Active,
    /// The saga waits for an operator, or for a late reply.
    Stuck,
    /// The saga has ended.
    Ended(End),
}

/// The way in which a saga ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// All steps were done.
    Completed,
    /// All steps that were done, or may have been done, are undone.
    Compensated,
    /// An operator had what remained written off.
    Abandoned,
}

/// The direction of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The step's action.
    Do,
    /// The step's compensation.
    Undo,
    /// The step's settlement: the participant writes the step off.
    Settle,
}

/// The status of a step.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No command was written yet.
    Waiting,
    /// The action's command was written, and its outcome is unknown.
    Sent,
    /// The step is done.
    Done(Answer),
    /// The step is not done, and never will be: a refusal is final.
    Refused(Answer),
    /// The step is undone, or there was nothing to undo.
    Undone(Answer),
    /// The step is written off, or was undone before it could be written off.
    Settled(Answer),
    /// An operator went on without the step: it has no settlement, or its settlement failed too.
    Skipped,
}

/// The content of a step's reply, for the payloads of later steps, and for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Answer {
    /// The kind of reply: `payment.declined`.
    pub kind: String,
    /// The reason: `insufficient_funds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The cause for which a saga turned around.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A step was refused.
    Refused {
        /// The index of the step that was refused.
        step: usize,
    },
    /// A step's last attempt had no reply.
    TimedOut {
        /// The index of the step without a reply.
        step: usize,
    },
    /// The service that started the saga cancelled it.
    Cancelled {
        /// The index of the step that was current then.
        step: usize,
        /// The reason, as given with the cancel.
        reason: String,
    },
}

/// An operator, and the reason for the operator's action.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct By {
    /// The operator's id.
    pub operator: String,
    /// The reason, and what was done instead.
    pub note: String,
}

/// An input to a saga.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The start of the saga.
    Start,
    /// A step's reply.
    Reply {
        /// The index of the step that replied.
        step: usize,
        /// The direction of the command that the reply is to.
        #[serde(rename = "asked")]
        direction: Direction,
        /// The reply's outcome.
        outcome: Outcome,
        /// The reply's content.
        answer: Answer,
    },
    /// The end of the wait for the reply to one attempt.
    TimedOut {
        /// The index of the step whose reply is overdue.
        step: usize,
        /// The direction of its command.
        #[serde(rename = "asked")]
        direction: Direction,
        /// The attempt whose reply is overdue; 1 is the first.
        attempt: u32,
    },
    /// A cancel by the service that started the saga.
    Cancel {
        /// The reason, kept in the [`Cause`].
        reason: String,
    },
    /// An operator's action.
    Operator {
        /// The action to carry out.
        action: Action,
        /// The operator, and the reason.
        by: By,
    },
}

/// An [`Input`] from outside, which names its step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A step's reply.
    Reply {
        /// The name of the step that replied.
        step: String,
        /// The direction of the command that the reply is to.
        direction: Direction,
        /// The reply's outcome.
        outcome: Outcome,
        /// The reply's content.
        answer: Answer,
    },
    /// A cancel by the service that started the saga.
    Cancel {
        /// The reason, kept in the [`Cause`].
        reason: String,
    },
}

impl Heard {
    /// Returns the input for a saga of this plan; `None` if the plan has no such step.
    pub fn input(&self, plan: &Plan) -> Option<Input> {
        match self.clone() {
            Self::Reply {
                step,
                direction,
                outcome,
                answer,
            } => Some(Input::Reply {
                step: plan.step(&step)?,
                direction,
                outcome,
                answer,
            }),
            Self::Cancel { reason } => Some(Input::Cancel { reason }),
        }
    }
}

/// A step's final reply. There is no "try later": a participant that cannot decide stays silent, and the command is
/// resent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The command was carried out, and its effect stays.
    Done,
    /// The command was not carried out, and never will be.
    Refused,
}

/// An operator's action on a stuck saga.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A resend of the current command, from the first attempt on.
    Resume,
    /// A skip of the current step: it is written off, and the saga goes on.
    Skip,
    /// The end of the saga: all that remains is written off.
    Abandon,
}

impl State {
    /// Returns the state of a saga that has not started.
    pub fn new(plan: &Plan) -> Self {
        let before = |action: bool| {
            if action {
                Status::Waiting
            } else {
                Status::Done(Answer::new("before"))
            }
        };
        Self {
            phase: Phase::Active,
            step: 0,
            direction: Direction::Do,
            attempt: 0,
            statuses: plan.steps.iter().map(|step| before(step.action)).collect(),
            cause: None,
            skipped_by: None,
            abandoned_by: None,
            error: None,
        }
    }

    /// Returns true if the saga has ended.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// Returns the state in one word: running, compensating, stuck, completed, compensated or abandoned.
    pub fn name(&self) -> &'static str {
        match (self.phase, &self.cause) {
            (Phase::Active, None) => "running",
            (Phase::Active, Some(_)) => "compensating",
            (Phase::Stuck, _) => "stuck",
            (Phase::Ended(end), _) => end.name(),
        }
    }

    /// Returns the operator who has the current step written off.
    pub fn writes_off(&self) -> Option<&By> {
        self.skipped_by.as_ref().or(self.abandoned_by.as_ref())
    }

    /// Returns true if the state is possible under its plan: a stored state may hold anything.
    pub(super) fn fits(&self, plan: &Plan) -> bool {
        let steps = plan.steps.len();
        let cause = self.cause.as_ref().is_none_or(|cause| cause.step() < steps);
        let can_be_asked = |direction: Direction| {
            plan.steps
                .get(self.step)
                .is_some_and(|step| match direction {
                    Direction::Do => step.action,
                    Direction::Undo => step.compensation,
                    Direction::Settle => step.settlement,
                })
        };
        self.statuses.len() == steps
            && cause
            && (*self == Self::new(plan) || self.attempt > 0 && can_be_asked(self.direction))
    }
}

impl End {
    /// Returns the end in one word, which is also the phase of the saga's row.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Direction {
    /// Returns the direction in one word, as in a command's idempotency key.
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
    /// Returns the action in one word, as in the audit trail.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resume => "resume",
            Self::Skip => "skip",
            Self::Abandon => "abandon",
        }
    }
}

impl Status {
    /// Returns the status in one word.
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

    /// Returns the reply's content, if the status comes from a reply.
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
    /// Creates an answer without a reason.
    pub fn new(kind: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            detail: None,
        }
    }

    /// Adds the reason.
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
    /// Returns the index of the step that the cause comes from.
    pub fn step(&self) -> usize {
        match self {
            Self::Refused { step } | Self::TimedOut { step } | Self::Cancelled { step, .. } => {
                *step
            }
        }
    }
}
