//! Payments that wait for the card processor, and for which no call can be made: a bug has written their row, or it is
//! damaged. Only a repair of the row helps.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use contracts::value::OrderId;

/// The reason for which no call can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Impossible {
    /// The stored id of the customer is not valid, so there is no account to lock.
    #[error("the payment has no owner")]
    NoOwner,
    /// A charge without an amount.
    #[error("the payment has no terms")]
    NoTerms,
    /// A charge that the message's transaction should have booked.
    #[error("the payment is to be taken from a wallet")]
    Wallet,
    /// A refund without the card processor's id of the charge.
    #[error("the payment has no charge to refund")]
    NoCharge,
}

/// The payments that were logged as impossible. Each process logs each of them once, not at each claim.
///
/// A std lock: held for a moment, never across an await.
#[derive(Debug, Default)]
pub(super) struct Logged(Mutex<HashSet<OrderId>>);

impl Logged {
    /// Adds a payment; returns false if it was added before.
    pub(super) fn add(&self, order: OrderId) -> bool {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        logged.insert(order)
    }
}
