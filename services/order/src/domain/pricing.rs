//! The price of an order, from the prices of its products.

use std::collections::HashMap;

use contracts::value::{Lines, Money, MoneyError, PricedLine, Sku};

/// The reason for which a line has no price, with the line's index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoPrice {
    /// Inventory has no price for the product.
    #[error("there is no product {sku}")]
    UnknownSku { index: usize, sku: Sku },
    /// The line, or the sum up to it, is too large, or in another currency than the lines before.
    #[error("{error}")]
    Amount { index: usize, error: MoneyError },
    /// There is nothing to pay: [`Lines`] cannot be empty.
    #[error("must not be empty")]
    NoLines,
}

impl NoPrice {
    /// Returns the field at fault, as a request names it.
    pub(crate) fn field(&self) -> String {
        match self {
            Self::UnknownSku { index, .. } | Self::Amount { index, .. } => {
                format!("lines[{index}].sku")
            }
            Self::NoLines => "lines".to_owned(),
        }
    }
}

/// Returns the lines with their prices, and the total. All must have one currency, because an order is paid in one
/// piece.
pub(crate) fn price(
    lines: &Lines,
    prices: &HashMap<Sku, Money>,
) -> Result<(Vec<PricedLine>, Money), NoPrice> {
    let mut priced = Vec::with_capacity(lines.as_slice().len());
    let mut total: Option<Money> = None;
    for (index, line) in lines.as_slice().iter().enumerate() {
        let unit_price = *prices.get(&line.sku).ok_or_else(|| NoPrice::UnknownSku {
            index,
            sku: line.sku.clone(),
        })?;
        let line = PricedLine {
            sku: line.sku.clone(),
            quantity: line.quantity,
            unit_price,
        };
        let wrong = |error| NoPrice::Amount { index, error };
        let amount = line.amount().map_err(wrong)?;
        total = Some(match total {
            None => amount,
            Some(before) => before.checked_add(amount).map_err(wrong)?,
        });
        priced.push(line);
    }
    let total = total.ok_or(NoPrice::NoLines)?;
    Ok((priced, total))
}
