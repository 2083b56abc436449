//! The messages that Holdfast's services exchange, and the values in them. There is no I/O here, and no behaviour
//! except what keeps a value valid.
//!
//! - [`value`]: `Money`, `Sku`, `Quantity`, ids. Each parses at the edge and cannot hold an invalid value after that.
//! - [`order`], [`payment`], [`inventory`], [`notification`], [`orchestrator`]: the messages of each service, one file
//!   per publisher.
//! - [`message`]: the trait of every message, and the catalogue of all of them;
//! - [`promise`]: the promises of a message beyond the form of its fields;
//! - [`source`]: the publisher of each type.
//!
//! Rules for changing a message: consumers ignore unknown fields, so a field may be added if it is optional. Every
//! other change (a field removed or renamed, another meaning) is a new version in the type's name, published beside the
//! old one until no consumer needs the old one.

pub mod inventory;
pub mod message;
pub mod notification;
pub mod orchestrator;
pub mod order;
pub mod payment;
pub mod promise;
pub mod source;
pub mod value;

pub use message::Message;
pub use promise::Violation;
