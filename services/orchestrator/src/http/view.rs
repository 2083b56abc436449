//! The bodies of the API's responses.

use holdfast::saga::{Ask, Entry, History, OperatorAction, StepHistory, Summary};
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::{
    ToSchema,
    openapi::{Object, OneOfBuilder, Type},
};
use uuid::Uuid;

/// A page of sagas, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SagaPage {
    pub(super) sagas: Vec<SagaView>,
    /// The value of `before` for the next page; absent on the last page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Uuid>,
}

/// A saga in one line.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SagaView {
    id: Uuid,
    /// The kind of saga: place_order or undo_order.
    definition: String,
    /// The version of the definition under which the saga began, and ends.
    version: i32,
    order_id: String,
    /// The phase: running, compensating, stuck, broken, completed, compensated or abandoned.
    phase: String,
    /// The current step; null once the saga has ended.
    step: Option<String>,
    /// The direction of the current command: do, undo or settle.
    direction: Option<String>,
    /// The attempts of the current command so far.
    attempt: i32,
    /// The time at which the reply is overdue; null if no reply is awaited.
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    /// The reason why the saga is stuck or broken.
    error: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    stuck_since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A saga with its steps, log and operator actions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SagaDetail {
    #[serde(flatten)]
    saga: SagaView,
    /// The reason why the saga turned around: the step that failed, and the cause in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// The data that the saga was started with.
    #[schema(value_type = Object)]
    data: serde_json::Value,
    /// The saga's steps, in order; empty if it cannot be read.
    steps: Vec<StepView>,
    /// The remaining steps, the current one first.
    remaining: Vec<RemainingView>,
    /// The saga's log, as stored.
    log: Vec<EntryView>,
    /// The operators' actions, in order.
    #[serde(rename = "deeds")]
    actions: Vec<OperatorActionView>,
}

/// A step of a saga.
#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    name: &'static str,
    /// The step's status: waiting, sent, done, refused, undone, settled or skipped.
    mark: &'static str,
    /// The commands that the step was sent, in order.
    asks: Vec<AskView>,
}

/// A command that a step was sent.
#[derive(Debug, Serialize, ToSchema)]
struct AskView {
    /// The command's direction: do, undo or settle.
    asked: &'static str,
    /// The attempts so far, at least 1.
    attempts: u32,
    #[serde(with = "time::serde::rfc3339")]
    first_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    answered_at: Option<OffsetDateTime>,
    /// The time from the first attempt to the reply, in milliseconds.
    duration_ms: Option<i64>,
    /// The reply, in words.
    answer: Option<String>,
    /// The command's payload.
    #[schema(value_type = Object)]
    payload: serde_json::Value,
}

/// A step that remains.
#[derive(Debug, Serialize, ToSchema)]
struct RemainingView {
    step: &'static str,
    /// The direction of its next command: do, undo or settle.
    asked: &'static str,
}

/// An entry of a saga's log.
#[derive(Debug, Serialize, ToSchema)]
struct EntryView {
    seq: i32,
    /// The input: its name, with its details if it has any.
    #[schema(schema_with = input)]
    input: serde_json::Value,
    /// The effect of the input, in words.
    effect: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

/// Describes the schema of an input: `"start"`, or an object with the input's name as its one field.
fn input() -> OneOfBuilder {
    let named = Object::with_type(Type::Object);
    OneOfBuilder::new()
        .item(Object::with_type(Type::String))
        .item(named)
}

/// An operator's action.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeedView)]
struct OperatorActionView {
    /// The action: resume, skip or abandon.
    action: String,
    /// The step that was current then.
    step: Option<String>,
    operator: String,
    note: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

impl From<Summary> for SagaView {
    fn from(summary: Summary) -> Self {
        Self {
            id: summary.id,
            definition: summary.definition,
            version: summary.version,
            order_id: summary.subject,
            phase: summary.phase,
            step: summary.step,
            direction: summary.direction,
            attempt: summary.attempt,
            due_at: summary.due_at,
            error: summary.error,
            stuck_since: summary.stuck_since,
            created_at: summary.created_at,
            updated_at: summary.updated_at,
        }
    }
}

impl From<History> for SagaDetail {
    fn from(history: History) -> Self {
        let remaining = history
            .remaining
            .into_iter()
            .map(|(step, direction)| RemainingView {
                step,
                asked: direction.name(),
            });
        Self {
            saga: SagaView::from(history.summary),
            cause: history
                .cause
                .map(|(step, cause)| format!("{step}: {cause}")),
            data: history.data,
            steps: history.steps.into_iter().map(StepView::from).collect(),
            remaining: remaining.collect(),
            log: history.log.into_iter().map(EntryView::from).collect(),
            actions: history
                .actions
                .into_iter()
                .map(OperatorActionView::from)
                .collect(),
        }
    }
}

impl From<StepHistory> for StepView {
    fn from(step: StepHistory) -> Self {
        Self {
            name: step.name,
            mark: step.status.name(),
            asks: step.asks.into_iter().map(AskView::from).collect(),
        }
    }
}

impl From<Ask> for AskView {
    fn from(ask: Ask) -> Self {
        let took = ask.answered_at.map(|answered| answered - ask.first_at);
        Self {
            asked: ask.direction.name(),
            attempts: ask.attempts,
            first_at: ask.first_at,
            answered_at: ask.answered_at,
            duration_ms: took
                .map(|took| i64::try_from(took.whole_milliseconds()).unwrap_or(i64::MAX)),
            answer: ask.answer,
            payload: ask.payload,
        }
    }
}

impl From<Entry> for EntryView {
    fn from(entry: Entry) -> Self {
        Self {
            seq: entry.seq,
            input: entry.input,
            effect: entry.effect,
            at: entry.at,
        }
    }
}

impl From<OperatorAction> for OperatorActionView {
    fn from(action: OperatorAction) -> Self {
        Self {
            action: action.action,
            step: action.step,
            operator: action.operator,
            note: action.note,
            at: action.at,
        }
    }
}
