//! The trace that a piece of work belongs to, and the attributes that are recorded there.

use opentelemetry::{
    Context, KeyValue, Value,
    trace::{Status, TraceContextExt},
};
use tracing::{Span, field::Empty, info_span};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::TraceContext;

/// Returns the position of the current span in its trace, if it is part of one.
pub fn trace_context() -> Option<TraceContext> {
    trace_context_of(&Span::current())
}

/// Returns the position of a span in its trace, if it is part of one: a span that [adopts](adopt) it becomes its child.
pub fn trace_context_of(span: &Span) -> Option<TraceContext> {
    let context = span.context();
    TraceContext::of_span(context.span().span_context(), context.get::<TraceContext>())
}

/// Returns the W3C `traceparent` of the current span, if it is part of a trace: for people and reports. Messages and
/// requests carry the whole [`trace_context`].
pub fn traceparent() -> Option<String> {
    trace_context().map(|context| context.traceparent())
}

/// Makes `span` a child of `parent`, and records the trace's id in its field `trace_id`.
///
/// Call it on a new span, before it is entered: a span's parent cannot change later.
pub fn adopt(span: &Span, parent: Option<&TraceContext>) {
    if let Some(parent) = parent {
        // The second holds the parts for which OpenTelemetry's own context has no room. Every span below inherits it.
        let context = Context::new()
            .with_remote_span_context(parent.to_remote())
            .with_value(parent.clone());
        // An error means that the span is filtered out or has begun: then there is nothing to continue.
        let _ = span.set_parent(context);
    }
    let context = span.context();
    let trace = context.span().span_context().trace_id();
    if context.span().span_context().is_valid() {
        span.record("trace_id", tracing::field::display(trace));
    }
}

/// Returns whether this span is recorded for an exporter.
pub fn is_recorded(span: &Span) -> bool {
    span.context().span().is_recording()
}

/// Links a span to another one that it belongs with but is not below, as a batch is linked to each of its messages.
pub fn link(from: &Span, to: &Span) {
    let context = to.context();
    if context.span().span_context().is_valid() {
        from.add_link(context.span().span_context().clone());
    }
}

/// Adds an attribute for traces alone: a field of the span would be on each of its log lines as well.
pub fn attribute(span: &Span, key: &'static str, value: impl Into<Value>) {
    span.set_attribute(key, value);
}

/// Adds [attributes](attribute) that are costly to make, if the span is recorded.
pub fn attributes<const N: usize>(span: &Span, make: impl FnOnce() -> [(&'static str, Value); N]) {
    let context = span.context();
    let recorded = context.span();
    if recorded.is_recording() {
        recorded.set_attributes(
            make()
                .into_iter()
                .map(|(key, value)| KeyValue::new(key, value)),
        );
    }
}

/// Renames a span once its subject is known, which may be after it began.
pub fn rename(span: &Span, name: impl FnOnce() -> String) {
    let context = span.context();
    if context.span().is_recording() {
        context.span().update_name(name());
    }
}

/// Marks a span as failed. `kind` is one of a small set of words, or a status: dashboards group by it.
pub fn fail(span: &Span, kind: impl Into<String>, detail: impl ToString) {
    span.set_attribute("error.type", kind.into());
    span.set_status(Status::error(detail.to_string()));
}

/// Makes a span for a database call: one for a whole transaction, or for a statement outside of one.
///
/// `operation` is the statement's first word, or `TRANSACTION`; `target` is the table, or the purpose of the
/// transaction.
pub fn sql(operation: &'static str, target: &str) -> Span {
    let span = info_span!("sql", otel.kind = "client", trace_id = Empty);
    attributes(&span, || {
        [
            ("db.system.name", "postgresql".into()),
            ("db.operation.name", operation.into()),
            ("db.query.summary", format!("{operation} {target}").into()),
        ]
    });
    rename(&span, || format!("{operation} {target}"));
    span
}
