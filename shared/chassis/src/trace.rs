//! What traces say about orders, under the same names in every service.

use contracts::value::{Money, OrderId, PaymentMethod};
use holdfast::telemetry;
use tracing::Span;

/// What is known of an order.
#[derive(Clone, Copy, Debug)]
pub struct OrderFacts<'a> {
    /// `order.id`
    pub id: OrderId,
    /// `order.amount`, in minor units, and `order.currency`
    pub amount: Option<Money>,
    /// `order.items_count`: units of goods
    pub items: Option<u64>,
    /// `payment.method`: `wallet` or `card`
    pub payment: Option<&'a PaymentMethod>,
}

impl<'a> OrderFacts<'a> {
    /// An order of which nothing else is known.
    pub fn of(id: OrderId) -> Self {
        Self {
            id,
            amount: None,
            items: None,
            payment: None,
        }
    }

    /// With its amount.
    #[must_use]
    pub fn amount(self, amount: Money) -> Self {
        Self {
            amount: Some(amount),
            ..self
        }
    }

    /// With the quantities of its lines.
    #[must_use]
    pub fn items(self, quantities: impl Iterator<Item = u32>) -> Self {
        Self {
            items: Some(quantities.map(u64::from).sum()),
            ..self
        }
    }

    /// With how it is paid.
    #[must_use]
    pub fn payment(self, method: &'a PaymentMethod) -> Self {
        Self {
            payment: Some(method),
            ..self
        }
    }

    /// Says so on a span. Never who ordered, nor which card: traces are read by more people than orders are.
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
