//! The ends that an order can come to, and the orders that lead there.

use serde_json::{Value, json};

use super::Coordination;
use crate::api::UNHEARD_OF;

/// An end that an order can come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Paid from the wallet.
    ConfirmedWallet,
    /// Paid by card.
    ConfirmedCard,
    /// The card was declined.
    DeclinedCard,
    /// The wallet does not hold enough.
    DeclinedWallet,
    /// Charged, out of stock, refunded.
    OutOfStock,
    /// Cancelled by the customer while it was pending.
    CancelledBefore,
    /// Cancelled by the customer after it was confirmed.
    CancelledAfter,
}

/// The moment at which the customer cancels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    Never,
    /// As soon as the order is accepted.
    AtOnce,
    /// Once the order is confirmed.
    WhenConfirmed,
}

const SKUS: [&str; 8] = [
    "TEA-EARL-GREY",
    "TEA-ASSAM",
    "TEA-SENCHA",
    "COFFEE-HOUSE",
    "COFFEE-ESPRESSO",
    "CUP-BLUE",
    "HONEY-LIME",
    "BISCUIT-OAT",
];
const CUSTOMERS: [&str; 7] = ["alice", "bob", "carol", "erin", "frank", "grace", "heidi"];

impl Ending {
    pub const ALL: [Self; 7] = [
        Self::ConfirmedWallet,
        Self::ConfirmedCard,
        Self::DeclinedCard,
        Self::DeclinedWallet,
        Self::OutOfStock,
        Self::CancelledBefore,
        Self::CancelledAfter,
    ];

    /// Returns one of the endings at random; most of them are confirmed.
    pub fn random() -> Self {
        match fastrand::u8(..100) {
            0..50 => Self::ConfirmedWallet,
            50..70 => Self::ConfirmedCard,
            70..77 => Self::DeclinedCard,
            77..81 => Self::DeclinedWallet,
            81..89 => Self::OutOfStock,
            89..94 => Self::CancelledBefore,
            _ => Self::CancelledAfter,
        }
    }

    /// Returns a description for a person.
    pub fn describe(self) -> &'static str {
        match self {
            Self::ConfirmedWallet => "paid from the wallet",
            Self::ConfirmedCard => "paid by card",
            Self::DeclinedCard => "the card is declined",
            Self::DeclinedWallet => "the wallet does not hold enough",
            Self::OutOfStock => "charged, then out of stock",
            Self::CancelledBefore => "cancelled before it is confirmed",
            Self::CancelledAfter => "cancelled after it was confirmed",
        }
    }

    /// Returns the expected state, and the expected reason of a cancellation.
    pub fn expected(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::ConfirmedWallet | Self::ConfirmedCard => ("confirmed", None),
            Self::DeclinedCard | Self::DeclinedWallet => ("cancelled", Some("payment_declined")),
            Self::OutOfStock => ("cancelled", Some("out_of_stock")),
            Self::CancelledBefore | Self::CancelledAfter => ("cancelled", Some("customer")),
        }
    }

    /// Returns the possible states of payment and inventory in the end, the usual ones first. A participant without any
    /// request has no row of the order: choreography sends a cancel to each, the orchestrator only to those it has sent
    /// a command.
    pub fn expected_books(self, way: Coordination) -> &'static [(&'static str, &'static str)] {
        use Coordination::{Choreography, Orchestration};
        match (self, way) {
            (Self::ConfirmedWallet | Self::ConfirmedCard, _) => &[("captured", "sold")],
            (Self::DeclinedCard | Self::DeclinedWallet, Choreography) => &[("declined", "void")],
            (Self::DeclinedCard | Self::DeclinedWallet, Orchestration) => {
                &[("declined", UNHEARD_OF)]
            }
            (Self::OutOfStock, _) => &[("refunded", "rejected")],
            // Cancelled while the card call was under way. The cancel may also have come before the call, or after its
            // response: then inventory has been asked meanwhile.
            (Self::CancelledBefore, Choreography) => &[
                ("refunded", "void"),
                ("void", "void"),
                ("refunded", "released"),
            ],
            // Inventory gets a command only after the payment; no participant gets one if the cancel overtakes the
            // start.
            (Self::CancelledBefore, Orchestration) => &[
                ("refunded", UNHEARD_OF),
                ("void", UNHEARD_OF),
                ("refunded", "released"),
                ("refunded", "void"),
                (UNHEARD_OF, UNHEARD_OF),
            ],
            (Self::CancelledAfter, _) => &[("refunded", "released")],
        }
    }

    /// Returns the moment at which the customer cancels.
    pub fn cancel(self) -> Cancel {
        match self {
            Self::CancelledBefore => Cancel::AtOnce,
            Self::CancelledAfter => Cancel::WhenConfirmed,
            _ => Cancel::Never,
        }
    }

    /// Returns the customer who orders.
    pub fn customer(self) -> &'static str {
        match self {
            Self::DeclinedWallet => "dave", // who has one euro
            _ => CUSTOMERS[fastrand::usize(..CUSTOMERS.len())],
        }
    }

    /// Returns the body of the order.
    pub fn order(self, way: Coordination) -> Value {
        let wallet = json!({ "method": "wallet" });
        let card = |token: &str| json!({ "method": "card", "token": token });
        let payment = match self {
            Self::ConfirmedWallet
            | Self::DeclinedWallet
            | Self::OutOfStock
            | Self::CancelledAfter => wallet,
            Self::ConfirmedCard => card("tok_visa"),
            Self::DeclinedCard => card("tok_declined"),
            // Slow enough to be cancelled before the card processor responds.
            Self::CancelledBefore => card("tok_slow"),
        };
        let lines = if self == Self::OutOfStock {
            json!([{ "sku": "SAMOVAR", "quantity": 1 }])
        } else {
            let first = fastrand::usize(..SKUS.len());
            let second = (first + fastrand::usize(1..SKUS.len())) % SKUS.len();
            let quantity = || fastrand::u32(1..=3);
            json!([{ "sku": SKUS[first], "quantity": quantity() }, { "sku": SKUS[second], "quantity": quantity() }])
        };
        json!({ "coordination": way.name(), "lines": lines, "payment": payment })
    }
}
