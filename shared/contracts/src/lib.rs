//! The messages that Holdfast's services exchange, and the values in them. Nothing else: no I/O, no behaviour beyond
//! what keeps a value valid.
//!
//! - [`value`]: `Money`, `Sku`, `Quantity`, ids. Each parses at the edge and cannot hold an invalid value after that.
//! - [`order`], [`payment`], [`inventory`], [`notification`], [`orchestrator`]: what each service publishes, one file per
//!   publisher.
//! - [`message`]: what every message has in common, and the catalogue of all of them;
//! - [`promise`]: what a message promises beyond the form of its fields, and who may publish which type.
//!
//! Rules for changing a message: consumers ignore fields they do not know, so a field may be added if it is optional.
//! Everything else (removing or renaming a field, another meaning) is a new version in the type's name, published
//! beside the old one until no consumer needs the old one.

pub mod inventory;
pub mod message;
pub mod notification;
pub mod orchestrator;
pub mod order;
pub mod payment;
pub mod promise;
pub mod value;

pub use message::Message;
pub use promise::Violation;
