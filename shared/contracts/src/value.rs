//! Values: each parses at the edge, names its limits in its errors, and cannot be invalid after that.

mod card;
mod id;
mod line;
mod money;
mod text;

pub use card::{CardToken, InvalidCardToken, PaymentMethod};
pub use id::OrderId;
pub use line::{InvalidLines, InvalidQuantity, Lines, MAX_LINES, OrderLine, PricedLine, Quantity};
pub use money::{Currency, InvalidCurrency, Money, MoneyError};
pub use text::{CustomerId, Email, InvalidCustomerId, InvalidEmail, InvalidSku, Sku};
