//! What the API answers with.

use holdfast::saga::{Ask, Deed, Entry, History, StepHistory, Summary};
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
    /// What to send as `before` for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Uuid>,
}

/// A saga.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SagaView {
    id: Uuid,
    /// place_order or undo_order.
    definition: String,
    /// Under which version of it this one began, and ends.
    version: i32,
    order_id: String,
    /// running, compensating, stuck, broken, completed, compensated or abandoned.
    phase: String,
    /// The step in hand.
    step: Option<String>,
    /// What it was asked: do, undo or settle.
    direction: Option<String>,
    /// How often.
    attempt: i32,
    /// When its answer is overdue.
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    /// Why it is stuck, or broken.
    error: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    stuck_since: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    updated_at: OffsetDateTime,
}

/// A saga, whole.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SagaDetail {
    #[serde(flatten)]
    saga: SagaView,
    /// Why it is being undone: the step that it comes from, and in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// What it was started with.
    #[schema(value_type = Object)]
    data: serde_json::Value,
    /// Its steps, in order; none, if it cannot be read.
    steps: Vec<StepView>,
    /// What remains, the step in hand first.
    remaining: Vec<RemainingView>,
    /// What happened, as it is written down.
    log: Vec<EntryView>,
    /// What operators did.
    deeds: Vec<DeedView>,
}

/// A step of a saga.
#[derive(Debug, Serialize, ToSchema)]
struct StepView {
    name: &'static str,
    /// waiting, sent, done, refused, undone, settled or skipped.
    mark: &'static str,
    /// What it was asked, in order.
    asks: Vec<AskView>,
}

/// Something that a step was asked.
#[derive(Debug, Serialize, ToSchema)]
struct AskView {
    /// do, undo or settle.
    asked: &'static str,
    /// How often it was sent.
    attempts: u32,
    #[serde(with = "time::serde::rfc3339")]
    first_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    answered_at: Option<OffsetDateTime>,
    /// From its first attempt to its answer.
    duration_ms: Option<i64>,
    /// What was answered.
    answer: Option<String>,
    /// The command.
    #[schema(value_type = Object)]
    payload: serde_json::Value,
}

/// What remains to be asked.
#[derive(Debug, Serialize, ToSchema)]
struct RemainingView {
    step: &'static str,
    /// do, undo or settle.
    asked: &'static str,
}

/// An entry of a saga's log.
#[derive(Debug, Serialize, ToSchema)]
struct EntryView {
    seq: i32,
    /// What happened: its name, with its particulars if it has any.
    #[schema(schema_with = input)]
    input: serde_json::Value,
    /// What followed from it.
    effect: Option<String>,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
}

/// An input of a saga: `"start"`, or an object with the input's name as its one field.
fn input() -> OneOfBuilder {
    let named = Object::with_type(Type::Object);
    OneOfBuilder::new()
        .item(Object::with_type(Type::String))
        .item(named)
}

/// What an operator did.
#[derive(Debug, Serialize, ToSchema)]
struct DeedView {
    /// resume, skip or abandon.
    action: String,
    /// The step that was in hand.
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
            .map(|(step, asked)| RemainingView {
                step,
                asked: asked.name(),
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
            deeds: history.deeds.into_iter().map(DeedView::from).collect(),
        }
    }
}

impl From<StepHistory> for StepView {
    fn from(step: StepHistory) -> Self {
        Self {
            name: step.name,
            mark: step.mark.name(),
            asks: step.asks.into_iter().map(AskView::from).collect(),
        }
    }
}

impl From<Ask> for AskView {
    fn from(ask: Ask) -> Self {
        let took = ask.answered_at.map(|answered| answered - ask.first_at);
        Self {
            asked: ask.asked.name(),
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

impl From<Deed> for DeedView {
    fn from(deed: Deed) -> Self {
        Self {
            action: deed.action,
            step: deed.step,
            operator: deed.operator,
            note: deed.note,
            at: deed.at,
        }
    }
}
