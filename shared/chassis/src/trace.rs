//! The attributes of orders in traces, under the same names in every service.

use contracts::value::{Money, OrderId, PaymentMethod};
use holdfast::telemetry;
use tracing::Span;

/// The facts about an order that traces show.
#[derive(Clone, Copy, Debug)]
pub struct OrderFacts<'a> {
    /// The order's id, as `order.id`.
    pub id: OrderId,
    /// The amount, as `order.amount`, in minor units, and `order.currency`.
    pub amount: Option<Money>,
    /// The units of goods, as `order.items_count`.
    pub items: Option<u64>,
    /// The payment method, as `payment.method`: `wallet` or `card`.
    pub payment: Option<&'a PaymentMethod>,
}

impl<'a> OrderFacts<'a> {
    /// Makes the facts of an order of which only the id is known.
    pub fn of(id: OrderId) -> Self {
        Self {
            id,
            amount: None,
            items: None,
            payment: None,
        }
    }

    /// Adds the amount.
    #[must_use]
    pub fn amount(self, amount: Money) -> Self {
        Self {
            amount: Some(amount),
            ..self
        }
    }

    /// Adds the units of goods, from the quantities of the lines.
    #[must_use]
    pub fn items(self, quantities: impl Iterator<Item = u32>) -> Self {
        Self {
            items: Some(quantities.map(u64::from).sum()),
            ..self
        }
    }

    /// Adds the payment method.
    #[must_use]
    pub fn payment(self, method: &'a PaymentMethod) -> Self {
        Self {
            payment: Some(method),
            ..self
        }
    }

    /// Sets the attributes on a span. The customer and the card are left out: more people read traces than orders.
    pub fn describe(&self, span: &Span) {
        if !telemetry::is_recorded(span) {
            return;
        }
        telemetry::attribute(span, "order.id", self.id.to_string());
        if let Some(amount) = self.amount {
            telemetry::attribute(span, "order.amount", amount.amount_minor);
            telemetry::attribute(span, "order.currency", amount.currency.to_string());
        }
        if let Some(items) = self.items {
            let items = i64::try_from(items).unwrap_or(i64::MAX);
            telemetry::attribute(span, "order.items_count", items);
        }
        if let Some(method) = self.payment {
            let method = match method {
                PaymentMethod::Wallet => "wallet",
                PaymentMethod::Card { .. } => "card",
            };
            telemetry::attribute(span, "payment.method", method);
        }
    }
}
