//! The steps of an order: what happened, in choreography; what was asked and what was answered, in orchestration.

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
    /// The message that led to it: of an answer, the command.
    pub cause: Option<Uuid>,
    pub kind: String,
    pub source: String,
    pub at: OffsetDateTime,
    pub detail: Detail,
}

/// What a payload says that the type does not, and the page shows. Anything else is nothing, whatever it looks like.
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
    /// It was a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ask: Option<Ask>,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    #[serde(rename = "type")]
    pub kind: String,
    pub source: String,
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// Since the order began, in milliseconds.
    pub ms: i64,
}

/// What is special about a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ask {
    /// The service that is asked.
    pub of: &'static str,
    /// Which saga, which news.
    pub about: Option<&'static str>,
    /// Whether it undoes something, or tells of that: a compensation.
    pub undoes: bool,
    /// How often it was sent.
    pub attempts: u32,
    /// The first answer; the others say the same.
    pub answer: Option<Said>,
}

/// Who is asked by a message of this type, and whether it undoes something; `None` if it is no command.
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

/// The steps as the page shows them, in the order of their times: each command once, with its answer.
///
/// Commands of one type about the same thing are one command that was sent again: an order's sagas ask for each effect under
/// one idempotency key, which is what the type and the detail name. (Of the two sagas that undo, only one ever does.)
pub(super) fn lines(steps: &[Step], began: OffsetDateTime) -> Vec<StepLine> {
    let said = |step: &Step| Said {
        kind: step.kind.clone(),
        source: step.source.clone(),
        at: step.at,
        ms: i64::try_from((step.at - began).whole_milliseconds().max(0)).unwrap_or(i64::MAX),
    };
    let mut lines: Vec<StepLine> = Vec::with_capacity(steps.len());
    // The place among the lines of each command, by what it is about and by the ids of its messages.
    let mut places = BTreeMap::new();
    let mut sent = BTreeMap::new();
    // First all commands: by another service's clock an answer may come before what it answers.
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
            // A fact, or an answer to a command that nobody here heard.
            None => lines.push(StepLine {
                said: said(step),
                ask: None,
            }),
        }
    }
    lines.sort_by_key(|line| line.said.at);
    lines
}

/// `/order` -> `order`
pub fn plain(source: &str) -> String {
    source.trim_start_matches('/').to_owned()
}
