//! The spans of what is done to an order.

use chassis::trace::OrderFacts;
use holdfast::telemetry;
use tracing::{Span, field::Empty, info_span};

use crate::store::{NewOrder, StoredOrder};

/// Returns the attributes that describe an order on a span.
pub(super) fn facts(stored: &StoredOrder) -> OrderFacts<'_> {
    let NewOrder {
        id,
        lines,
        amount,
        payment,
        ..
    } = &stored.new;
    OrderFacts::of(*id)
        .amount(*amount)
        .items(lines.iter().map(|line| line.quantity.get()))
        .payment(payment)
}

/// Returns the span of work that no message caused. It begins a trace of its own.
pub(super) fn unasked(stored: &StoredOrder, name: &'static str) -> Span {
    let span = info_span!(parent: None, "unasked", order.id = %stored.new.id, trace_id = Empty);
    telemetry::adopt(&span, None);
    telemetry::rename(&span, || name.to_owned());
    facts(stored).describe(&span);
    span
}
