//! The news for a customer, and the rule by which late news is dropped. No I/O.

use contracts::{
    order::{CancelReason, Customer},
    value::{Money, OrderId},
};

/// The end of an order, as news for its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) order_id: OrderId,
    pub(crate) order_version: u32,
    pub(crate) customer: Customer,
    pub(crate) amount: Money,
    pub(crate) what: What,
}

/// The end that an order came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The order is confirmed.
    Confirmed,
    /// The order is undone.
    Cancelled {
        /// The reason for which it was cancelled.
        reason: CancelReason,
        /// The outcome for the customer's money.
        charge: Charge,
    },
}

/// The outcome for the money of an order that was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// No money was taken.
    None,
    /// The money was taken, and given back.
    Refunded,
    /// An operator settles the payment outside of this system, which knows no more about it.
    Settled,
}

impl What {
    /// Returns the name of this kind of news. An order has at most one mail of each kind.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Confirmed => "order.confirmed",
            Self::Cancelled { .. } => "order.cancelled",
        }
    }
}

/// Returns true if the order's `version` is newer than the one of the customer's last news, if there was any.
///
/// Messages come late, twice and in any order. A customer with the news that an order is cancelled must not get a later
/// mail that it is confirmed.
pub(crate) fn is_news(told: Option<u32>, version: u32) -> bool {
    told.is_none_or(|told| version > told)
}

/// Returns the reason for a cancellation in words for the customer.
pub(crate) fn in_words(reason: CancelReason) -> &'static str {
    match reason {
        CancelReason::PaymentDeclined => "your payment was declined",
        CancelReason::OutOfStock => "we do not have enough of what you ordered",
        CancelReason::Customer => "you asked us to",
        CancelReason::Operator => "we had to; please ask our customer service",
        CancelReason::Deadline => "we could not complete it in time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_that_is_not_newer_is_no_news() {
        assert!(is_news(None, 2));
        assert!(is_news(Some(2), 4));
        assert!(!is_news(Some(2), 2), "the same version twice");
        assert!(!is_news(Some(4), 2), "confirmed after cancelled");
    }
}
