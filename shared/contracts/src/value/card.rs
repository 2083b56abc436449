//! The ways to pay an order.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::text::text;

/// The way in which an order is paid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum PaymentMethod {
    /// From the customer's wallet, which the payment service keeps.
    Wallet,
    /// By card, which the card processor charges.
    Card {
        /// The token that stands for the card; the card's number never gets here.
        token: CardToken,
    },
}

text! {
    /// The token that the card processor gave the customer's browser to stand for the card.
    CardToken, InvalidCardToken = "a card token is 'tok_' and 1 to 60 characters of a-z, 0-9 and '_'",
    pattern = "^tok_[a-z0-9_]{1,60}$",
    |s| s.strip_prefix("tok_").is_some_and(|rest| {
        (1..=60).contains(&rest.len())
            && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    })
}
