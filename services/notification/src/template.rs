//! Mails from templates: the first line of a template is the subject, the rest is the body.

use minijinja::{Environment, context};

use crate::domain::{Charge, News, What, in_words};

/// A mail's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) subject: String,
    pub(crate) body: String,
}

/// The templates, compiled.
#[derive(Clone)]
pub(crate) struct Templates(Environment<'static>);

impl Templates {
    pub(crate) fn new() -> Result<Self, minijinja::Error> {
        let mut templates = Environment::new();
        // A template that names a missing value is a bug: rendering fails, so that no mail goes out with a gap in it.
        templates.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        templates.add_template(
            "order.confirmed",
            include_str!("../templates/order_confirmed.txt"),
        )?;
        templates.add_template(
            "order.cancelled",
            include_str!("../templates/order_cancelled.txt"),
        )?;
        Ok(Self(templates))
    }

    pub(crate) fn render(&self, news: &News) -> Result<Text, minijinja::Error> {
        let (reason, charge) = match news.what {
            What::Confirmed => ("", Charge::None),
            What::Cancelled { reason, charge } => (in_words(reason), charge),
        };
        let text = self.0.get_template(news.what.kind())?.render(context! {
            order_id => news.order_id.to_string(),
            customer => news.customer.id.to_string(),
            amount => news.amount.to_string(),
            reason,
            refunded => charge == Charge::Refunded,
            settled => charge == Charge::Settled,
        })?;
        let (subject, body) = text.split_once('\n').unwrap_or((&text, ""));
        Ok(Text {
            subject: subject.trim().to_owned(),
            body: body.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use contracts::{
        order::{CancelReason, Customer},
        value::{Currency, Money, OrderId},
    };

    use super::*;

    #[test]
    fn every_end_of_an_order_has_its_mail() {
        let templates = Templates::new().expect("they compile");
        let news = |what| News {
            order_id: OrderId::new(),
            order_version: 2,
            customer: Customer {
                id: "alice".parse().expect("an id"),
                email: None,
            },
            amount: Money::new(1250, Currency::EUR),
            what,
        };
        let confirmed = templates
            .render(&news(What::Confirmed))
            .expect("it renders");
        assert!(confirmed.subject.ends_with("is confirmed"), "{confirmed:?}");
        assert!(
            confirmed.body.contains("Hello alice,")
                && confirmed.body.contains("12.50 EUR has been charged")
        );

        for reason in [
            CancelReason::PaymentDeclined,
            CancelReason::OutOfStock,
            CancelReason::Customer,
            CancelReason::Operator,
            CancelReason::Deadline,
        ] {
            for (charge, words) in [
                (Charge::Refunded, "on its way back"),
                (Charge::None, "have not been charged"),
                (Charge::Settled, "put right by our staff"),
            ] {
                let text = templates
                    .render(&news(What::Cancelled { reason, charge }))
                    .expect("it renders");
                assert!(text.body.contains(in_words(reason)), "{text:?}");
                for other in [
                    "on its way back",
                    "have not been charged",
                    "put right by our staff",
                ] {
                    assert_eq!(text.body.contains(other), other == words, "{text:?}");
                }
            }
        }
    }
}
