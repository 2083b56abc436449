//! What a customer is told, and when it is too late to tell it. No I/O.

pub(crate) mod webhook;

use contracts::{
    order::{CancelReason, Customer},
    value::{Money, OrderId},
};

/// An end of an order, which its customer is to hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    pub(crate) order_id: OrderId,
    pub(crate) order_version: u32,
    pub(crate) customer: Customer,
    pub(crate) amount: Money,
    pub(crate) what: What,
}

/// What became of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// It is confirmed.
    Confirmed,
    /// It is undone.
    Cancelled {
        /// Why.
        reason: CancelReason,
        /// What became of the money.
        charge: Charge,
    },
}

/// What became of the money of an order that was undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charge {
    /// Nothing was taken.
    None,
    /// It was taken, and given back.
    Refunded,
    /// An operator sees to it, outside of this system: nobody here knows more.
    Settled,
}

impl What {
    /// The name under which there is one mail per order.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Confirmed => "order.confirmed",
            Self::Cancelled { .. } => "order.cancelled",
        }
    }
}

/// Whether news of an order's version is still news, when the customer was told of version `told`.
///
/// Messages come late, twice and in any order. Nobody who was told that an order is cancelled wants to hear after that that
/// it is confirmed.
pub(crate) fn is_news(told: Option<u32>, version: u32) -> bool {
    told.is_none_or(|told| version > told)
}

/// Why an order was cancelled, for its customer.
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
    fn what_is_older_than_what_was_told_is_no_news() {
        assert!(is_news(None, 2));
        assert!(is_news(Some(2), 4));
        assert!(!is_news(Some(2), 2), "the same, again");
        assert!(!is_news(Some(4), 2), "confirmed, after cancelled");
    }
}
