//! From a typed message to an outbox row.

use contracts::{Message, value::OrderId};
use holdfast::{
    messaging::{Event, Incoming},
    outbox,
};
use uuid::Uuid;

/// The exchange of everything that happened.
pub const EXCHANGE: &str = "events";

/// How an order is coordinated: the first segment of its messages' routing keys, so that the queues of choreography never
/// see an orchestrated order.
pub const CHOREOGRAPHY: &str = "choreography";

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

    /// The outbox row for `message`, in the current trace. `step` names the effect that the message asks for or tells of;
    /// with the order it makes the idempotency key.
    pub fn message<M: Message>(&self, message: &M, step: &str) -> outbox::Message {
        let order = message.order_id();
        // Invariant: contracts are plain data (no maps with keys that are no strings), which always serializes.
        let data = serde_json::to_vec(message).unwrap_or_default();
        let mut event = Event::new(
            M::TYPE,
            &format!("/{}", self.service),
            order.to_string(),
            data,
        );
        event.idempotency_key = Some(idempotency_key(order, step));
        event.causation_id = self.cause.map(|cause| cause.id);
        event.into_message(EXCHANGE, format!("{CHOREOGRAPHY}.{}", M::TYPE))
    }
}

/// The permanent name of an effect: the order, the step, and its direction, as in `0198…/payment/undo`.
pub fn idempotency_key(order: OrderId, step: &str) -> String {
    format!("{order}/{step}")
}

/// Decodes a payload, saying which field is wrong.
pub fn decode<M: Message>(event: &Incoming) -> Result<M, holdfast::messaging::Undecodable> {
    let message: M = from_json(&event.data).map_err(holdfast::messaging::Undecodable::Malformed)?;
    let (subject, order) = (&event.subject, message.order_id());
    if subject.parse::<Uuid>().ok() != Some(order.0) {
        return Err(holdfast::messaging::Undecodable::Malformed(format!(
            "the envelope is about {subject:?}, the payload about {order}"
        )));
    }
    Ok(message)
}

/// Decodes JSON; the error names the field.
pub fn from_json<T: serde::de::DeserializeOwned>(data: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(data);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        if path == "." {
            error.inner().to_string()
        } else {
            format!("{path}: {}", error.inner())
        }
    })?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}
