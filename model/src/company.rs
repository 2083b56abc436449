//! The card company.

use payment::domain as money;

use super::bag::Bag;

/// What the card company holds, under the order's idempotency keys, its own durable ledger; and what it says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CardCompany {
    /// What it decided about the charge, once for ever.
    pub charge: Option<bool>,
    /// Whether it gave the money back.
    pub refunded: bool,
    /// Its answers on their way.
    pub answers: Bag<CardAnswer>,
}

/// An answer of the card company, on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CardAnswer {
    Captured,
    Declined,
    Refunded,
}

/// What payment's worker asks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// To charge, which it decides so if it has not decided yet.
    Charge { captures: bool },
    /// To refund.
    Refund,
}

impl CardCompany {
    /// What the worker asks about such a payment, each as it may turn out.
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

    /// Whether it has the customer's money.
    pub fn keeps(&self) -> bool {
        self.charge == Some(true) && !self.refunded
    }
}
