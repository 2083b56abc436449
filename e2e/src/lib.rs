//! Tests across services, and the model of the protocol.
//!
//! [`model`] runs the production transition functions of order, payment and inventory under everything that brokers, crashes
//! and card companies may do, and is searched exhaustively by `tests/it/model.rs`.

pub mod model;
pub mod topology;
