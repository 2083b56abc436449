//! From a typed message to an outbox row.

pub use contracts::promise::source_of;
use contracts::{Message, value::OrderId};
use holdfast::{
    messaging::{Event, Incoming, Undecodable},
    outbox,
};
use uuid::Uuid;

use crate::wording::from_json;

/// The exchange of everything that happened to choreographed orders.
pub const EXCHANGE: &str = "events";
/// The exchanges of what a service asks of another, by the name of the one that is asked. Each service that asks has one of its
/// own, and no other account may write to it: see [`exchange_of`].
pub const COMMANDS: &str = "commands";
/// The exchanges of what a service replies to commands; all of it is for the orchestrator. Each service has one of its own.
pub const REPLIES: &str = "replies";
/// The service that asks, and is answered.
pub const ORCHESTRATOR: &str = "orchestrator";

/// Returns the exchange of [`COMMANDS`] or [`REPLIES`] to which `service` publishes, as in `replies.payment`.
///
/// A direct exchange has no permission per key, so who may say something is decided by the exchange.
pub fn exchange_of(kind: &str, service: &str) -> String {
    format!("{kind}.{service}")
}

/// How an order is coordinated: the first segment of its messages' routing keys, so that the queues of choreography never
/// see an orchestrated order.
pub const CHOREOGRAPHY: &str = "choreography";
/// The other way; see [`CHOREOGRAPHY`].
pub const ORCHESTRATION: &str = "orchestration";

/// Who publishes, and what led to it.
#[derive(Clone, Copy, Debug)]
pub struct Publishing<'a> {
    /// The service's name: the event's source, and the only first segment of types that its broker account may publish.
    pub service: &'static str,
    /// The message that led to this, if a message did.
    pub cause: Option<&'a Incoming>,
}

impl<'a> Publishing<'a> {
    /// Publishing by itself: a request, a timer or an operator led to it.
    pub fn by(service: &'static str) -> Self {
        Self {
            service,
            cause: None,
        }
    }

    /// Publishing because of `cause`.
    pub fn because_of(self, cause: &'a Incoming) -> Self {
        Self {
            cause: Some(cause),
            ..self
        }
    }

    /// The outbox row for `message`, a fact of choreography, in the current trace. `step` names the effect that the message
    /// asks for or tells of; with the order it makes the idempotency key.
    pub fn message<M: Message>(&self, message: &M, step: &str) -> outbox::Message {
        let key = idempotency_key(message.order_id(), step);
        self.event(message, key)
            .into_message(EXCHANGE, format!("{CHOREOGRAPHY}.{}", M::TYPE))
    }

    /// The outbox row for `message`, an answer to the command whose idempotency key is `key`.
    pub fn reply<M: Message>(&self, message: &M, key: &str) -> outbox::Message {
        self.event(message, key.to_owned())
            .into_message(&exchange_of(REPLIES, self.service), ORCHESTRATOR.to_owned())
    }

    /// The outbox row for `message`, an answer that goes where `answering` says. `step` names the effect that it tells of.
    pub fn answer<M: Message>(
        &self,
        answering: Answering<'_>,
        message: &M,
        step: &str,
    ) -> outbox::Message {
        match answering {
            Answering::Choreography => self.message(message, step),
            Answering::Command(key) => self.reply(message, key),
        }
    }

    /// The outbox row for `message`, a command to the service `to`, whose effect `key` names.
    pub fn command<M: Message>(&self, message: &M, to: &str, key: String) -> outbox::Message {
        self.event(message, key)
            .into_message(&exchange_of(COMMANDS, self.service), to.to_owned())
    }

    /// The event for `message`, in the current trace.
    fn event<M: Message>(&self, message: &M, idempotency_key: String) -> Event {
        // Invariant: contracts are plain data (no maps with keys that are no strings), which always serializes.
        let data = serde_json::to_vec(message).unwrap_or_default();
        let subject = message.order_id().to_string();
        let mut event = Event::new(M::TYPE, &format!("/{}", self.service), subject, data);
        event.idempotency_key = Some(idempotency_key);
        event.causation_id = self.cause.map(|cause| cause.id);
        event
    }
}

/// Who asked, and so where the answer goes. A participant does the same for both; only its answers part ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering<'a> {
    /// A fact of choreography asked: the answer is one too, under the key of the effect, for whoever it concerns.
    Choreography,
    /// The orchestrator asked, by the command of this idempotency key: the answer is for it alone, under the same key.
    Command(&'a str),
}

impl<'a> Answering<'a> {
    /// The command's key; none in choreography.
    pub fn key(self) -> Option<&'a str> {
        match self {
            Self::Choreography => None,
            Self::Command(key) => Some(key),
        }
    }
}

/// As a table, or a decoded message, keeps it.
impl<'a> From<Option<&'a str>> for Answering<'a> {
    fn from(key: Option<&'a str>) -> Self {
        key.map_or(Self::Choreography, Self::Command)
    }
}

/// The permanent name of an effect: the order, the step, and its direction, as in `0198…/payment/undo`.
pub fn idempotency_key(order: OrderId, step: &str) -> String {
    format!("{order}/{step}")
}

/// Decodes a payload, and checks all that its contract promises; the error names the field.
pub fn decode<M: Message>(event: &Incoming) -> Result<M, Undecodable> {
    check_source(event)?;
    let message: M =
        from_json(&event.data).map_err(|wrong| Undecodable::Malformed(wrong.to_string()))?;
    let (subject, order) = (&event.subject, message.order_id());
    if subject.parse::<Uuid>().ok() != Some(order.0) {
        return Err(Undecodable::Malformed(format!(
            "the envelope is about {subject:?}, the payload about {order}"
        )));
    }
    message
        .check()
        .map_err(|violation| Undecodable::Violation(violation.to_string()))?;
    Ok(message)
}

/// Checks that the source of a message may publish its type: payment alone says what was paid. Types of no publisher of ours
/// pass; no handler acts on them.
pub fn check_source(event: &Incoming) -> Result<(), Undecodable> {
    match source_of(&event.kind) {
        Some(source) if event.source != source => Err(Undecodable::Forged {
            by: event.source.clone(),
            kind: event.kind.clone(),
        }),
        _ => Ok(()),
    }
}

/// The idempotency key of a command, which its answer carries back.
pub fn key_of(event: &Incoming) -> Result<String, Undecodable> {
    event.idempotency_key.clone().ok_or_else(|| {
        Undecodable::Malformed("cloudEvents_idempotencykey: a command needs one".to_owned())
    })
}
