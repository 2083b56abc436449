//! The card processor, as payment sees it.

use payment::domain as money;

use super::bag::Bag;

/// The card processor: its own durable ledger, under the order's idempotency keys, and its responses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CardCompany {
    /// The decision about the charge, made once for all; `None` before that.
    pub charge: Option<bool>,
    /// Set once the money was given back.
    pub refunded: bool,
    /// Responses on their way to payment.
    pub answers: Bag<CardAnswer>,
}

/// A response of the card processor, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CardAnswer {
    Captured,
    Declined,
    Refunded,
}

/// A call by payment's worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// A charge; `captures` becomes the decision, unless there is one.
    Charge { captures: bool },
    /// A refund of the captured charge.
    Refund,
}

impl CardCompany {
    /// Returns the calls that the worker may make for a payment in this state, one for each possible outcome.
    pub fn asks(&self, payment: Option<money::State>) -> &'static [Ask] {
        const CAPTURES: Ask = Ask::Charge { captures: true };
        const DECLINES: Ask = Ask::Charge { captures: false };
        match (payment, self.charge) {
            (Some(money::State::Charging { .. }), None) => &[CAPTURES, DECLINES],
            (Some(money::State::Charging { .. }), Some(true)) => &[CAPTURES],
            (Some(money::State::Charging { .. }), Some(false)) => &[DECLINES],
            (Some(money::State::Refunding), _) => &[Ask::Refund],
            _ => &[],
        }
    }

    pub(super) fn hears(&mut self, ask: Ask) {
        self.answers.add(match ask {
            Ask::Charge { captures } => {
                if *self.charge.get_or_insert(captures) {
                    CardAnswer::Captured
                } else {
                    CardAnswer::Declined
                }
            }
            Ask::Refund => {
                self.refunded = true;
                CardAnswer::Refunded
            }
        });
    }

    /// Returns whether the card processor has the customer's money.
    pub fn keeps(&self) -> bool {
        self.charge == Some(true) && !self.refunded
    }
}
