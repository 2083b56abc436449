//! The envelope: `CloudEvents` 1.0, mapped to AMQP 0-9-1 headers.

use std::collections::BTreeMap;

use lapin::{message::Delivery, types::AMQPValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::Uuid;

use super::headers::CUT;
use crate::{
    outbox::Message,
    telemetry::{self, TraceContext},
};

/// The header that counts the attempts at a message: 1 for its first delivery.
pub const ATTEMPT: &str = "holdfast-attempt";
/// The header that counts how often a message was put off because a row or table that it needs was locked. These are no
/// attempts.
pub(super) const PUT_OFF: &str = "holdfast-put-off";
/// The header that names, in one word, the cause for which a message was sent to the dead-letter queue.
pub(super) const CAUSE: &str = "holdfast-cause";
/// The header that explains [`CAUSE`] to people, in at most 500 characters.
pub(super) const DETAIL: &str = "holdfast-detail";
/// The header that counts how often a message went back to the end of its dead-letter queue, because the table of
/// parked messages refused it.
pub(super) const REFUSED: &str = "holdfast-refused";

const PREFIX: &str = "cloudEvents_";
/// The header of the message's id.
#[cfg(feature = "failpoints")]
pub(super) const ID: &str = "cloudEvents_id";

/// A message to be sent.
///
/// It has three ids:
///
/// - `id` is new for every send; the receiver's inbox recognises a redelivery by it;
/// - `idempotency_key` names the effect, and is the same each time that effect is requested;
/// - `causation_id` is the `id` of the message that led to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The message's id, new for every send.
    pub id: Uuid,
    /// The type, with its version: `order.created.v1`.
    pub kind: String,
    /// The service that sends it: `/order`.
    pub source: String,
    /// The subject: the id of an order.
    pub subject: String,
    /// The time at which it was written, by the publisher's clock. For people: no decision depends on it.
    pub time: OffsetDateTime,
    /// The permanent name of the effect that this message requests or reports.
    pub idempotency_key: Option<String>,
    /// The message that led to this one.
    pub causation_id: Option<Uuid>,
    /// The trace that this is part of, and where in it.
    pub trace: Option<TraceContext>,
    /// The payload, as JSON.
    pub data: Vec<u8>,
}

impl Event {
    /// Makes an event with a new id and the current time, in the current trace.
    pub fn new(kind: &str, source: &str, subject: String, data: Vec<u8>) -> Self {
        Self {
            id: Uuid::now_v7(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            subject,
            time: OffsetDateTime::now_utc(),
            idempotency_key: None,
            causation_id: None,
            trace: telemetry::trace_context(),
            data,
        }
    }

    /// Returns the outbox row that brings this event to `exchange` under `routing_key`.
    pub fn into_message(self, exchange: &str, routing_key: String) -> Message {
        let attributes = [
            ("specversion", Some("1.0".to_owned())),
            ("id", Some(self.id.to_string())),
            ("type", Some(self.kind)),
            ("source", Some(self.source)),
            ("subject", Some(self.subject)),
            ("time", self.time.format(&Rfc3339).ok()),
            ("idempotencykey", self.idempotency_key),
            ("causationid", self.causation_id.map(|id| id.to_string())),
        ];
        let mut headers: BTreeMap<String, String> = attributes
            .into_iter()
            .filter_map(|(name, value)| Some((format!("{PREFIX}{name}"), value?)))
            .collect();
        if let Some(trace) = self.trace {
            trace.put_into(&mut headers);
        }
        Message {
            id: self.id,
            exchange: exchange.to_owned(),
            routing_key,
            headers,
            payload: self.data,
        }
    }
}

/// A message that was received. Its envelope is checked, its payload is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// The key of the inbox, together with the queue.
    pub id: Uuid,
    /// The type, with its version.
    pub kind: String,
    /// The service that sent it, by its own account.
    pub source: String,
    /// The subject: the id of an order.
    pub subject: String,
    /// The time at which it was written, by the publisher's clock; `None` if it is missing or not valid.
    pub time: Option<OffsetDateTime>,
    /// The permanent name of the effect.
    pub idempotency_key: Option<String>,
    /// The message that led to this one.
    pub causation_id: Option<Uuid>,
    /// The trace that this is part of, and where in it.
    pub trace: Option<TraceContext>,
    /// The number of this attempt, from 1; one more for each retry.
    pub attempt: u32,
    /// The text headers, as they were received.
    pub headers: BTreeMap<String, String>,
    /// The payload; its form is not checked.
    pub data: Vec<u8>,
}

/// An envelope that cannot be read. No delivery of it ever can be: park it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub String);

impl Incoming {
    /// Reads the envelope of a delivery from its text headers, which come back with an error.
    pub(super) fn read(
        delivery: &Delivery,
        headers: BTreeMap<String, String>,
    ) -> Result<Self, (Malformed, BTreeMap<String, String>)> {
        let event = match Self::envelope(&headers) {
            Ok(envelope) => Self {
                headers,
                data: delivery.data.clone(),
                ..envelope
            },
            Err(malformed) => return Err((malformed, headers)),
        };
        // The broker's tools show the AMQP property; CloudEvents defines the attribute. Both are the id.
        let property = delivery.properties.message_id().as_ref();
        if property.is_some_and(|id| id.as_str() != event.id.to_string()) {
            let why = "the property message_id and the header cloudEvents_id differ";
            return Err((Malformed(why.to_owned()), event.headers));
        }
        Ok(event)
    }

    /// Reads an envelope from its headers.
    pub fn from_headers(
        headers: BTreeMap<String, String>,
        data: Vec<u8>,
    ) -> Result<Self, Malformed> {
        let envelope = Self::envelope(&headers)?;
        Ok(Self {
            headers,
            data,
            ..envelope
        })
    }

    /// Reads the attributes of an envelope; headers and payload stay empty.
    fn envelope(headers: &BTreeMap<String, String>) -> Result<Self, Malformed> {
        let attribute = |name: &str| attribute(headers, name).map(str::to_owned);
        let required = |name: &str| {
            attribute(name).ok_or_else(|| {
                Malformed(format!(
                    "the header {PREFIX}{name} is missing or is not text"
                ))
            })
        };
        let uuid = |text: String, name: &str| {
            text.parse::<Uuid>().map_err(|_| {
                Malformed(format!(
                    "the header {PREFIX}{name} is not a valid UUID: {text:?}"
                ))
            })
        };
        match required("specversion")?.as_str() {
            "1.0" => {}
            other => {
                return Err(Malformed(format!(
                    "CloudEvents {other:?} is not supported, only 1.0"
                )));
            }
        }
        Ok(Self {
            id: uuid(required("id")?, "id")?,
            kind: required("type")?,
            source: required("source")?,
            subject: required("subject")?,
            time: attribute("time").and_then(|time| OffsetDateTime::parse(&time, &Rfc3339).ok()),
            idempotency_key: attribute("idempotencykey"),
            causation_id: attribute("causationid")
                .map(|id| uuid(id, "causationid"))
                .transpose()?,
            trace: TraceContext::from_headers(headers),
            attempt: headers
                .get(ATTEMPT)
                .and_then(|attempt| attempt.parse().ok())
                .unwrap_or(1),
            headers: BTreeMap::new(),
            data: Vec::new(),
        })
    }
}

/// Turns stored headers into those of a new send: a new id, caused by the old one, on its first attempt.
///
/// `source` is the source that publishes this type. It goes to an envelope that lacks a source, or whose type an
/// operator changed. `subject` goes to an envelope that lacks one.
pub(super) fn resend(
    headers: &BTreeMap<String, String>,
    old: Uuid,
    new: Uuid,
    kind: &str,
    source: Option<&str>,
    subject: Option<&str>,
) -> BTreeMap<String, String> {
    let is_retyped = attribute(headers, "type") != Some(kind);
    let mut headers = headers.clone();
    for ours in [ATTEMPT, PUT_OFF, CAUSE, DETAIL, REFUSED, CUT] {
        headers.remove(ours);
    }
    headers.insert(format!("{PREFIX}specversion"), "1.0".to_owned());
    headers.insert(format!("{PREFIX}id"), new.to_string());
    headers.insert(format!("{PREFIX}type"), kind.to_owned());
    headers.insert(format!("{PREFIX}causationid"), old.to_string());
    let named = format!("{PREFIX}source");
    match source {
        // A changed type gets the source that publishes it. A type that stays keeps its source, forged or not.
        Some(source) if is_retyped => {
            headers.insert(named, source.to_owned());
        }
        _ => {
            let source = source.unwrap_or("/operator");
            headers.entry(named).or_insert_with(|| source.to_owned());
        }
    }
    if let Some(subject) = subject {
        headers
            .entry(format!("{PREFIX}subject"))
            .or_insert_with(|| subject.to_owned());
    }
    headers
}

/// Returns the attribute `name` from stored headers.
pub(super) fn attribute<'a>(headers: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    headers.get(&format!("{PREFIX}{name}")).map(String::as_str)
}

/// Returns the headers that are text, without those of brokers (`x-death`), which must not be sent on: they describe an
/// earlier delivery.
pub(super) fn text_headers(delivery: &Delivery) -> BTreeMap<String, String> {
    let Some(table) = delivery.properties.headers() else {
        return BTreeMap::new();
    };
    table
        .inner()
        .iter()
        .filter(|(name, _)| !name.as_str().starts_with("x-"))
        .filter_map(|(name, value)| {
            let text = match value {
                AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok()?,
                AMQPValue::ShortString(text) => text.as_str(),
                _ => return None,
            };
            // PostgreSQL's text holds every character except this one, and these headers end in a table.
            let clean = |text: &str| text.replace('\0', "\u{fffd}");
            Some((clean(name.as_str()), clean(text)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use lapin::{
        BasicProperties,
        types::{FieldTable, LongString},
    };

    use super::*;

    fn event() -> Event {
        Event {
            idempotency_key: Some("order/1/charge".into()),
            causation_id: Some(Uuid::from_u128(7)),
            trace: TraceContext::parse(
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
                Some("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
            ),
            ..Event::new("order.created.v1", "/order", "1".into(), b"{}".to_vec())
        }
    }

    fn delivered(headers: &BTreeMap<String, String>) -> Delivery {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(
                name.as_str().into(),
                AMQPValue::LongString(LongString::from(value.as_bytes())),
            );
        }
        let mut delivery = Delivery::mock(1, "events".into(), "key".into(), false, b"{}".to_vec());
        delivery.properties = BasicProperties::default().with_headers(table);
        delivery
    }

    fn received(headers: &BTreeMap<String, String>) -> Result<Incoming, Malformed> {
        let delivery = delivered(headers);
        Incoming::read(&delivery, text_headers(&delivery)).map_err(|(malformed, _)| malformed)
    }

    #[test]
    fn an_envelope_arrives_as_it_was_sent() {
        let sent = event();
        let message = sent
            .clone()
            .into_message("events", "choreography.order.created.v1".into());
        let got = received(&message.headers).expect("whole");
        assert_eq!(
            (got.id, &got.kind, &got.source, &got.subject),
            (sent.id, &sent.kind, &sent.source, &sent.subject)
        );
        assert_eq!((got.time, got.attempt), (Some(sent.time), 1));
        assert_eq!(
            (got.idempotency_key, got.causation_id, got.trace),
            (sent.idempotency_key, sent.causation_id, sent.trace)
        );
    }

    #[test]
    fn malformed_envelope_names_the_header_at_fault() {
        let whole = event().into_message("events", "key".into()).headers;
        for (name, value, complaint) in [
            (
                "cloudEvents_specversion",
                None,
                "cloudEvents_specversion is missing",
            ),
            (
                "cloudEvents_specversion",
                Some("0.3"),
                "\"0.3\" is not supported",
            ),
            ("cloudEvents_id", None, "cloudEvents_id is missing"),
            (
                "cloudEvents_id",
                Some("17"),
                "cloudEvents_id is not a valid UUID: \"17\"",
            ),
            ("cloudEvents_type", None, "cloudEvents_type is missing"),
            ("cloudEvents_source", None, "cloudEvents_source is missing"),
            (
                "cloudEvents_subject",
                None,
                "cloudEvents_subject is missing",
            ),
            (
                "cloudEvents_causationid",
                Some("x"),
                "causationid is not a valid UUID",
            ),
        ] {
            let mut headers = whole.clone();
            match value {
                Some(value) => headers.insert(name.into(), value.into()),
                None => headers.remove(name),
            };
            let Malformed(why) = received(&headers).expect_err(name);
            assert!(why.contains(complaint), "{why:?} should say {complaint:?}");
        }
    }
}
