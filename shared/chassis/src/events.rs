//! Outbox rows for typed messages, and typed messages from deliveries.

pub use contracts::source::source_of;
use contracts::{Message, value::OrderId};
use holdfast::{
    messaging::{Event, Incoming, Received, Undecodable},
    outbox,
};
use uuid::Uuid;

use crate::wording::from_json;

/// The exchange of all events of choreographed orders.
pub const EXCHANGE: &str = "events";
/// The exchanges of commands; the routing key is the service that gets the command. Each service that sends commands
/// has an exchange of its own, and no other account may write to it: see [`exchange_of`].
pub const COMMANDS: &str = "commands";
/// The exchanges of replies to commands; all of them are for the orchestrator. Each service has one of its own.
pub const REPLIES: &str = "replies";
/// The service that sends commands and gets the replies.
pub const ORCHESTRATOR: &str = "orchestrator";

/// Returns the exchange of [`COMMANDS`] or [`REPLIES`] to which `service` publishes, as in `replies.payment`.
///
/// A direct exchange has no permission per key, so the exchange decides who may publish what.
pub fn exchange_of(kind: &str, service: &str) -> String {
    format!("{kind}.{service}")
}

/// The coordination of an order by events: the first segment of its messages' routing keys, so that the queues of
/// choreography never see an orchestrated order.
pub const CHOREOGRAPHY: &str = "choreography";
/// The coordination of an order by commands; see [`CHOREOGRAPHY`].
pub const ORCHESTRATION: &str = "orchestration";

/// The publisher of messages, and the message that led to them.
#[derive(Clone, Copy, Debug)]
pub struct Publishing<'a> {
    /// The service's name: the event's source, and the only first segment of types that its broker account may publish.
    pub service: &'static str,
    /// The message that led to these, if a message did.
    pub cause: Option<&'a Incoming>,
}

impl<'a> Publishing<'a> {
    /// Makes a publisher without a cause: a request, a timer or an operator led to its messages.
    pub fn by(service: &'static str) -> Self {
        Self {
            service,
            cause: None,
        }
    }

    /// Sets the message that led to the publisher's messages.
    pub fn because_of(self, cause: &'a Incoming) -> Self {
        Self {
            cause: Some(cause),
            ..self
        }
    }

    /// Returns the outbox row for `message`, an event of choreography, in the current trace. `step` names the effect
    /// that the message requests or reports; with the order it makes the idempotency key.
    pub fn message<M: Message>(&self, message: &M, step: &str) -> outbox::Message {
        let key = idempotency_key(message.order_id(), step);
        self.event(message, key)
            .into_message(EXCHANGE, format!("{CHOREOGRAPHY}.{}", M::TYPE))
    }

    /// Returns the outbox row for `message`, a reply to the command whose idempotency key is `key`.
    pub fn reply<M: Message>(&self, message: &M, key: &str) -> outbox::Message {
        self.event(message, key.to_owned())
            .into_message(&exchange_of(REPLIES, self.service), ORCHESTRATOR.to_owned())
    }

    /// Returns the outbox row for `message`, which answers `answering`. `step` names the effect that it reports.
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

    /// Returns the outbox row for `message`, a command to the service `to`; `key` names its effect.
    pub fn command<M: Message>(&self, message: &M, to: &str, key: String) -> outbox::Message {
        self.event(message, key)
            .into_message(&exchange_of(COMMANDS, self.service), to.to_owned())
    }

    /// Returns the event for `message`, in the current trace.
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

/// The origin of a request, and so the destination of the answer. A participant does the same work for both; only its
/// answers differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answering<'a> {
    /// An event of choreography: the answer is an event too, under the key of the effect, for every service that it
    /// concerns.
    Choreography,
    /// A command of the orchestrator, with this idempotency key: the answer is a reply to it alone, under the same key.
    Command(&'a str),
}

impl<'a> Answering<'a> {
    /// Returns the command's key; `None` in choreography.
    pub fn key(self) -> Option<&'a str> {
        match self {
            Self::Choreography => None,
            Self::Command(key) => Some(key),
        }
    }
}

/// Converts the key of a command, as a table or a decoded message has it; `None` is choreography.
impl<'a> From<Option<&'a str>> for Answering<'a> {
    fn from(key: Option<&'a str>) -> Self {
        key.map_or(Self::Choreography, Self::Command)
    }
}

/// A message about an order, and the request that it makes of the service that gets it. An event of choreography and a
/// command of the orchestrator are the same to a participant, but for the recipient of the answer.
#[derive(Debug)]
pub struct Command<R> {
    /// The order that the message is about.
    pub order: OrderId,
    /// The version of the order that the message names.
    pub order_version: u32,
    /// The request that the message makes; `None` if it does not concern this service.
    pub request: Option<R>,
    /// The idempotency key under which a command is answered; `None` in choreography.
    pub reply_key: Option<String>,
}

impl<R> Command<R> {
    /// Makes the command in a message. The consumer of commands adds the key under which it replies.
    pub fn about<M: Message>(message: &M, request: Option<R>) -> Self {
        Self {
            order: message.order_id(),
            order_version: message.order_version(),
            request,
            reply_key: None,
        }
    }

    /// Returns the recipient of the answer: every service, or the command's sender.
    pub fn answering(&self) -> Answering<'_> {
        self.reply_key.as_deref().into()
    }
}

/// Returns the messages of a batch that make a request of this service, each with its request.
pub fn requests<'a, R>(
    messages: &[&'a Received<Command<R>>],
) -> Vec<(&'a Received<Command<R>>, &'a R)> {
    let requests = messages.iter().copied().filter_map(|message| {
        let request = message.command.request.as_ref()?;
        Some((message, request))
    });
    requests.collect()
}

/// Returns the permanent name of an effect: the order, the step, and its direction, as in `0198…/payment/undo`.
pub fn idempotency_key(order: OrderId, step: &str) -> String {
    format!("{order}/{step}")
}

/// Decodes a payload, and checks every promise of its contract; the error names the field.
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

/// Checks that the source of a message may publish its type: payment alone reports a payment. Types without a known
/// publisher pass; no handler acts on them.
pub fn check_source(event: &Incoming) -> Result<(), Undecodable> {
    match source_of(&event.kind) {
        Some(source) if event.source != source => Err(Undecodable::Forged {
            by: event.source.clone(),
            kind: event.kind.clone(),
        }),
        _ => Ok(()),
    }
}

/// Returns the idempotency key of a command, which its reply carries back.
pub fn key_of(event: &Incoming) -> Result<String, Undecodable> {
    event.idempotency_key.clone().ok_or_else(|| {
        Undecodable::Malformed("cloudEvents_idempotencykey: a command needs one".to_owned())
    })
}
