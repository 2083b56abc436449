//! The spans of messages. A span with one cause is that cause's child. A span with several begins a trace of its own
//! and is linked with each of them (decision 0012).

use std::{borrow::Cow, collections::BTreeMap};

use lapin::message::Delivery;
use tracing::{Span, field::Empty, info_span};

use super::event::{ATTEMPT, attribute};
use crate::{
    outbox::{Message, Outcome},
    telemetry::{self, TRACESTATE, TraceContext},
};

/// A message on its way to the broker. Each attempt to publish it has a span of its own.
pub(super) struct Sent<'a> {
    pub(super) message: &'a Message,
    /// The context that is sent in the place of the message's own, so that the message is handled as a child of this
    /// attempt. `None` without telemetry: then the headers pass through.
    context: Option<TraceContext>,
    span: Span,
}

impl<'a> Sent<'a> {
    pub(super) fn begin(message: &'a Message) -> Self {
        let cause = TraceContext::from_headers(&message.headers);
        if cause.as_ref().is_some_and(|cause| !cause.is_sampled()) {
            // This trace is not sampled: its context is sent on as it is.
            return Self {
                message,
                context: cause,
                span: Span::none(),
            };
        }
        let span = info_span!(parent: None, "send", otel.kind = "producer", trace_id = Empty);
        telemetry::adopt(&span, cause.as_ref());
        let destination = destination(&message.exchange, &message.routing_key);
        telemetry::attributes(&span, || {
            [
                ("messaging.system", "rabbitmq".into()),
                ("messaging.operation.name", "publish".into()),
                ("messaging.operation.type", "send".into()),
                ("messaging.destination.name", destination.clone().into()),
                (
                    "messaging.rabbitmq.destination.routing_key",
                    message.routing_key.clone().into(),
                ),
                ("messaging.message.id", message.id.to_string().into()),
                (
                    "order.id",
                    attribute(&message.headers, "subject")
                        .unwrap_or_default()
                        .to_owned()
                        .into(),
                ),
            ]
        });
        telemetry::rename(&span, || format!("send {destination}"));
        Self {
            message,
            context: telemetry::trace_context_of(&span),
            span,
        }
    }

    /// Returns the headers to publish.
    pub(super) fn headers(&self) -> BTreeMap<&str, Cow<'_, str>> {
        let own = self.message.headers.iter();
        let mut headers: BTreeMap<&str, Cow<'_, str>> = own
            .map(|(name, value)| (name.as_str(), Cow::from(value)))
            .collect();
        if let Some(context) = &self.context {
            headers.remove(TRACESTATE);
            headers.extend(
                context
                    .headers()
                    .map(|(name, value)| (name, Cow::from(value))),
            );
        }
        headers
    }

    /// Marks the span as failed unless the broker confirmed the message.
    pub(super) fn end(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Confirmed => {}
            Outcome::Refused(why) => telemetry::fail(&self.span, "refused", why),
            Outcome::Nacked => {
                telemetry::fail(&self.span, "nacked", "the broker could not store it");
            }
            Outcome::Unknown => telemetry::fail(&self.span, "unknown", "no answer"),
        }
    }
}

/// Returns the span under which a batch is published.
pub(super) fn of_sending(batch: &[Sent<'_>]) -> Span {
    let spans: Vec<&Span> = batch.iter().map(|sent| &sent.span).collect();
    of_several(&spans, "send", "publish", "batch")
}

/// Returns the span under which a batch is handled.
pub(super) fn of_receiving(queue: &str, messages: &[&Span]) -> Span {
    of_several(messages, "receive", "consume", queue)
}

/// Returns the span of several messages: the only message's own, or else a new one; the new one and each message's are
/// linked both ways.
fn of_several(
    messages: &[&Span],
    kind: &'static str,
    operation: &'static str,
    target: &str,
) -> Span {
    let recorded: Vec<&&Span> = messages
        .iter()
        .filter(|span| telemetry::is_recorded(span))
        .collect();
    if messages.len() < 2 || recorded.is_empty() {
        return messages
            .first()
            .map_or_else(Span::none, |only| (*only).clone());
    }
    let span = info_span!(parent: None, "batch", otel.kind = "client", trace_id = Empty);
    telemetry::attributes(&span, || {
        [
            ("messaging.system", "rabbitmq".into()),
            ("messaging.operation.name", operation.into()),
            ("messaging.operation.type", kind.into()),
            ("messaging.destination.name", target.to_owned().into()),
            (
                "messaging.batch.message_count",
                i64::try_from(messages.len()).unwrap_or(i64::MAX).into(),
            ),
        ]
    });
    telemetry::rename(&span, || format!("{kind} {target}"));
    for message in recorded {
        telemetry::link(&span, message);
        telemetry::link(message, &span);
    }
    span
}

/// Makes the span of one delivery, a child of the span that sent it.
pub(super) fn of_delivery(
    queue: &str,
    delivery: &Delivery,
    headers: &BTreeMap<String, String>,
) -> Span {
    let span = info_span!(
        parent: None,
        "process",
        otel.kind = "consumer",
        queue,
        cloudevents.event_type = attribute(headers, "type"),
        order.id = attribute(headers, "subject"),
        trace_id = Empty,
    );
    telemetry::adopt(&span, TraceContext::from_headers(headers).as_ref());
    let destination = match destination(delivery.exchange.as_str(), delivery.routing_key.as_str()) {
        destination if delivery.routing_key.as_str() == queue => destination,
        destination => format!("{destination}:{queue}"),
    };
    telemetry::attributes(&span, || {
        let attempt = headers
            .get(ATTEMPT)
            .and_then(|attempt| attempt.parse().ok());
        let id = delivery.properties.message_id().as_ref();
        [
            ("messaging.system", "rabbitmq".into()),
            ("messaging.operation.name", "process".into()),
            ("messaging.operation.type", "process".into()),
            ("messaging.destination.name", destination.clone().into()),
            (
                "messaging.rabbitmq.destination.routing_key",
                delivery.routing_key.to_string().into(),
            ),
            (
                "messaging.message.id",
                id.map(ToString::to_string).unwrap_or_default().into(),
            ),
            ("holdfast.attempt", attempt.unwrap_or(1_i64).into()),
            ("holdfast.redelivered", delivery.redelivered.into()),
        ]
    });
    telemetry::rename(&span, || format!("process {destination}"));
    span
}

/// Returns a destination's name by OpenTelemetry's convention for RabbitMQ.
fn destination(exchange: &str, routing_key: &str) -> String {
    match (exchange, routing_key) {
        ("", key) => key.to_owned(),
        (exchange, "") => exchange.to_owned(),
        (exchange, key) => format!("{exchange}:{key}"),
    }
}
