//! The lines of an order.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, Unexpected, Visitor},
};

use super::{Money, MoneyError, Sku};

/// The most lines that an order may have.
pub const MAX_LINES: usize = 100;

/// A number of units of one product: 1 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = u32, minimum = 1, maximum = 1000))]
#[serde(into = "u32")]
pub struct Quantity(u32);

/// A number that is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a quantity is a whole number from 1 to {}", Quantity::MAX)]
pub struct InvalidQuantity;

impl Quantity {
    /// The most units of one product that an order may hold.
    pub const MAX: u32 = 1000;

    /// Returns the number of units.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u64> for Quantity {
    type Error = InvalidQuantity;

    fn try_from(n: u64) -> Result<Self, Self::Error> {
        match u32::try_from(n) {
            Ok(n @ 1..=Self::MAX) => Ok(Self(n)),
            _ => Err(InvalidQuantity),
        }
    }
}

/// Written by hand, so that every invalid number (negative, huge, with a fraction) is answered with the limits.
impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeNumber;

        impl Visitor<'_> for WholeNumber {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a whole number from 1 to {}", Quantity::MAX)
            }

            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Quantity, E> {
                Quantity::try_from(n).map_err(|_| E::invalid_value(Unexpected::Unsigned(n), &self))
            }

            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Quantity, E> {
                u64::try_from(n)
                    .ok()
                    .and_then(|n| Quantity::try_from(n).ok())
                    .ok_or_else(|| E::invalid_value(Unexpected::Signed(n), &self))
            }
        }

        deserializer.deserialize_u32(WholeNumber)
    }
}

impl From<Quantity> for u32 {
    fn from(q: Quantity) -> Self {
        q.0
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A line of an order: a product, and how many units of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct OrderLine {
    pub sku: Sku,
    pub quantity: Quantity,
}

/// A line of an order, at the price that inventory gave for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct PricedLine {
    pub sku: Sku,
    pub quantity: Quantity,
    /// The price of one unit.
    pub unit_price: Money,
}

impl PricedLine {
    /// Returns the price of the whole line.
    pub fn amount(&self) -> Result<Money, MoneyError> {
        self.unit_price.checked_mul(self.quantity.get())
    }
}

/// 1 to [`MAX_LINES`] lines, each of another product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = Vec<OrderLine>, min_items = 1, max_items = 100))]
#[serde(try_from = "Vec<OrderLine>", into = "Vec<OrderLine>")]
pub struct Lines(Vec<OrderLine>);

/// A list that is not valid as the lines of an order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLines {
    #[error("an order has 1 to {MAX_LINES} lines, not {0}")]
    Count(usize),
    #[error("each product may be on one line only, and {0} is on several")]
    Duplicate(Sku),
}

impl Lines {
    /// Returns the lines, in their order.
    pub fn as_slice(&self) -> &[OrderLine] {
        &self.0
    }
}

impl TryFrom<Vec<OrderLine>> for Lines {
    type Error = InvalidLines;

    fn try_from(lines: Vec<OrderLine>) -> Result<Self, Self::Error> {
        if !(1..=MAX_LINES).contains(&lines.len()) {
            return Err(InvalidLines::Count(lines.len()));
        }
        let mut skus: Vec<&Sku> = lines.iter().map(|line| &line.sku).collect();
        skus.sort_unstable();
        match skus.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(InvalidLines::Duplicate(pair[0].clone())),
            None => Ok(Self(lines)),
        }
    }
}

impl From<Lines> for Vec<OrderLine> {
    fn from(lines: Lines) -> Self {
        lines.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: serde_json::Value) -> Result<Lines, String> {
        serde_json::from_value(json).map_err(|e| e.to_string())
    }

    #[test]
    fn the_limits_of_an_order_are_in_its_errors() {
        let line =
            |sku: &str, quantity: i64| serde_json::json!({ "sku": sku, "quantity": quantity });
        let wrong = |json| lines(json).expect_err("should be refused");

        assert!(wrong(serde_json::json!([])).contains("1 to 100 lines, not 0"));
        let many: Vec<_> = (0..101).map(|n| line(&format!("S-{n}"), 1)).collect();
        assert!(wrong(many.into()).contains("1 to 100 lines, not 101"));
        assert!(
            wrong(serde_json::json!([
                line("A", 1),
                line("B", 1),
                line("A", 2)
            ]))
            .contains("A is on several")
        );
        for quantity in [0, -1, 1001, i64::MAX, i64::MIN] {
            assert!(
                wrong(serde_json::json!([line("A", quantity)])).contains("from 1 to 1000"),
                "{quantity}"
            );
        }
        assert!(lines(serde_json::json!([line("A", 1), line("B", 1000)])).is_ok());
    }
}
