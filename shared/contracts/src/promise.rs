//! The promises of a message beyond the form of its fields. The publisher keeps them; each consumer checks them,
//! because a consumer that charges a total or reserves lines acts on more than the form says.

use std::collections::HashSet;

use crate::value::{MAX_LINES, Money, PricedLine};

/// A promise that a payload breaks, although each of its fields is valid. It will never be kept: park the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Violation {
    /// The field that is at fault.
    pub field: &'static str,
    /// The promise of the contract about the field, and the value that was found.
    pub problem: String,
}

/// Checks the lines of an order, and an amount that must be their sum.
pub(crate) fn total(lines: &[PricedLine], amount: Money) -> Result<(), Violation> {
    positive(amount)?;
    goods(lines)?;
    let sum = lines
        .iter()
        .try_fold(Money::new(0, amount.currency), |sum: Money, line| {
            sum.checked_add(line.amount()?)
        });
    match sum {
        Ok(sum) if sum == amount => Ok(()),
        Ok(sum) => Err(broken(
            "amount",
            format!("must be the sum of the lines, {sum}, not {amount}"),
        )),
        Err(error) => Err(broken(
            "amount",
            format!("must be the sum of the lines: {error}"),
        )),
    }
}

/// Checks the lines of an order: 1 to [`MAX_LINES`], each of another product, each at a price, all in one currency.
pub(crate) fn goods(lines: &[PricedLine]) -> Result<(), Violation> {
    let lines_are = |problem: String| Err(broken("lines", problem));
    let Some(first) = lines.first() else {
        return lines_are(format!("must be 1 to {MAX_LINES} lines, not 0"));
    };
    if lines.len() > MAX_LINES {
        return lines_are(format!(
            "must be 1 to {MAX_LINES} lines, not {}",
            lines.len()
        ));
    }
    let mut products = HashSet::new();
    for line in lines {
        if !products.insert(&line.sku) {
            return lines_are(format!(
                "must each be of another product, not twice of {}",
                line.sku
            ));
        }
        if line.unit_price.amount_minor <= 0 {
            return lines_are(format!(
                "must each have a price, not {} for {}",
                line.unit_price, line.sku
            ));
        }
        let (currency, other) = (first.unit_price.currency, line.unit_price.currency);
        if currency != other {
            return lines_are(format!(
                "must be in one currency, not in {currency} and {other}"
            ));
        }
    }
    Ok(())
}

/// Checks an amount of money that changes hands.
pub(crate) fn positive(amount: Money) -> Result<(), Violation> {
    if amount.amount_minor > 0 {
        Ok(())
    } else {
        Err(broken(
            "amount",
            format!("must be more than zero, not {amount}"),
        ))
    }
}

fn broken(field: &'static str, problem: String) -> Violation {
    Violation { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::{Currency, Quantity};

    fn line(sku: &str, quantity: u64, price: i64) -> PricedLine {
        PricedLine {
            sku: sku.parse().expect("a SKU"),
            quantity: Quantity::try_from(quantity).expect("a quantity"),
            unit_price: Money::new(price, Currency::EUR),
        }
    }

    fn euros(amount: i64) -> Money {
        Money::new(amount, Currency::EUR)
    }

    #[test]
    fn total_is_the_sum_of_its_lines() {
        let lines = [line("TEA", 2, 350), line("CUP", 1, 690)];
        assert_eq!(total(&lines, euros(1390)), Ok(()));
        let dollars = |line: &PricedLine| PricedLine {
            unit_price: Money::new(line.unit_price.amount_minor, Currency::USD),
            ..line.clone()
        };
        let huge = [line("TEA", 1000, i64::MAX)];
        for (lines, amount, problem) in [
            (
                lines.to_vec(),
                euros(1),
                "amount: must be the sum of the lines, 13.90 EUR",
            ),
            (lines.to_vec(), euros(0), "amount: must be more than zero"),
            (
                lines.to_vec(),
                euros(-1390),
                "amount: must be more than zero",
            ),
            (
                lines.to_vec(),
                Money::new(1390, Currency::USD),
                "amount: must be the sum of the lines",
            ),
            (
                vec![lines[0].clone(), dollars(&lines[1])],
                euros(1390),
                "lines: must be in one currency",
            ),
            (vec![], euros(1390), "lines: must be 1 to 100 lines, not 0"),
            (
                vec![lines[0].clone(), lines[0].clone()],
                euros(1400),
                "lines: must each be of another product",
            ),
            (
                vec![line("TEA", 2, 1390), line("CUP", 1, -1390)],
                euros(1390),
                "lines: must each have a price",
            ),
            (
                huge.to_vec(),
                euros(1390),
                "amount: must be the sum of the lines: the amount exceeds",
            ),
        ] {
            let violation = total(&lines, amount).expect_err(problem).to_string();
            assert!(violation.starts_with(problem), "{violation:?}");
        }
        let many: Vec<_> = (0..101).map(|n| line(&format!("S-{n}"), 1, 1)).collect();
        let violation = total(&many, euros(101)).expect_err("too many").to_string();
        assert!(violation.contains("not 101"), "{violation:?}");
    }
}
