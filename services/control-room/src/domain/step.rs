//! The steps of an order: its events in choreography; its commands, each with its reply, in orchestration.

use std::collections::BTreeMap;

use contracts::{
    Message,
    orchestrator::{
        CancelOrder, ChargePayment, CommitInventory, CompleteOrder, ConfirmOrder, News,
        RefundPayment, ReleaseInventory, ReserveInventory, SendNotification, SettleInventory,
        SettlePayment,
    },
    order::{CancelRequested, Saga, StartSaga},
};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use time::OffsetDateTime;
use uuid::Uuid;

/// A message about an order.
#[derive(Clone, Debug)]
pub struct Step {
    pub message_id: Uuid,
    /// The message that caused it: for a reply, the command.
    pub cause: Option<Uuid>,
    pub kind: String,
    pub source: String,
    pub at: OffsetDateTime,
    pub detail: Detail,
}

/// The part of a payload that the page shows besides the type: a saga, or news. Any other payload is `Nothing`.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Detail {
    Saga { saga: Saga },
    News { news: News },
    Nothing(IgnoredAny),
}

impl Default for Detail {
    fn default() -> Self {
        Self::Nothing(IgnoredAny)
    }
}

impl Detail {
    fn word(&self) -> Option<&'static str> {
        match self {
            Self::Saga {
                saga: Saga::PlaceOrder,
            } => Some("place_order"),
            Self::Saga {
                saga: Saga::UndoOrder,
            } => Some("undo_order"),
            Self::News {
                news: News::Confirmed,
            } => Some("confirmed"),
            Self::News {
                news: News::Cancelled { .. },
            } => Some("cancelled"),
            Self::Nothing(_) => None,
        }
    }
}

/// A step, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepLine {
    #[serde(flatten)]
    pub said: Said,
    /// The command's part; `None` for any other message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
}

/// A message, as the page shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    #[serde(rename = "type")]
    pub kind: String,
    pub source: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// The time since the order began, in milliseconds.
    pub ms: i64,
}

/// The part of a step that only a command has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// The service that the command is sent to.
    pub of: &'static str,
    /// The saga to start, or the news to send; `None` for other commands.
    pub about: Option<&'static str>,
    /// True for a compensation: the command undoes something, or starts or announces that.
    pub undoes: bool,
    /// The number of times that it was sent.
    pub attempts: u32,
    /// The first reply; later ones say the same.
    pub answer: Option<Said>,
}

/// Returns the recipient of a command, and true if it is a compensation; `None` if the type is not a command's.
fn command(kind: &str, detail: &Detail) -> Option<(&'static str, bool)> {
    let tells_of_undoing = matches!(detail.word(), Some("undo_order" | "cancelled"));
    Some(match kind {
        StartSaga::TYPE => ("orchestrator", tells_of_undoing),
        CancelRequested::TYPE => ("orchestrator", true),
        ChargePayment::TYPE => ("payment", false),
        RefundPayment::TYPE | SettlePayment::TYPE => ("payment", true),
        ReserveInventory::TYPE | CommitInventory::TYPE => ("inventory", false),
        ReleaseInventory::TYPE | SettleInventory::TYPE => ("inventory", true),
        ConfirmOrder::TYPE | CompleteOrder::TYPE => ("order", false),
        CancelOrder::TYPE => ("order", true),
        SendNotification::TYPE => ("notification", tells_of_undoing),
        _ => return None,
    })
}

/// Returns the steps as the page shows them, ordered by time: each command once, with its reply.
///
/// Commands with the same type and detail are resends of one command: an order's sagas request each effect under one
/// idempotency key, which the type and the detail stand for. (Two sagas of an order can compensate, but only one does.)
pub(super) fn lines(steps: &[Step], began: OffsetDateTime) -> Vec<StepLine> {
    let said = |step: &Step| Said {
        kind: step.kind.clone(),
        source: step.source.clone(),
        at: step.at,
        ms: i64::try_from((step.at - began).whole_milliseconds().max(0)).unwrap_or(i64::MAX),
    };
    let mut lines: Vec<StepLine> = Vec::with_capacity(steps.len());
    // The index of each command in `lines`: by its type and detail, and by the ids of its messages.
    let mut places = BTreeMap::new();
    let mut sent = BTreeMap::new();
    // Commands first: by its own service's clock, a reply may be older than its command.
    let (commands, others): (Vec<_>, Vec<_>) = steps
        .iter()
        .map(|step| (step, command(&step.kind, &step.detail)))
        .partition(|(_, command)| command.is_some());
    for (step, command) in commands {
        let Some((of, undoes)) = command else {
            continue;
        };
        let about = step.detail.word();
        let place = *places
            .entry((step.kind.as_str(), about))
            .or_insert(lines.len());
        sent.insert(step.message_id, place);
        match lines.get_mut(place).and_then(|line| line.ask.as_mut()) {
            Some(ask) => ask.attempts += 1,
            None => lines.push(StepLine {
                said: said(step),
                ask: Some(Ask {
                    of,
                    about,
                    undoes,
                    attempts: 1,
                    answer: None,
                }),
            }),
        }
    }
    for (step, _) in others {
        let place = step.cause.and_then(|cause| sent.get(&cause)).copied();
        match place.and_then(|place| lines.get_mut(place)?.ask.as_mut()) {
            Some(ask) => {
                ask.answer.get_or_insert_with(|| said(step));
            }
            // An event, or a reply to a command that the room has missed.
            None => lines.push(StepLine {
                said: said(step),
                ask: None,
            }),
        }
    }
    lines.sort_by_key(|line| line.said.at);
    lines
}

/// Returns a source without its leading slash: `order` for `/order`.
pub fn plain(source: &str) -> String {
    source.trim_start_matches('/').to_owned()
}
