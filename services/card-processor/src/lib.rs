//! The card processor: a stand-in for the external company that charges cards, as unreliable as its knobs make it.
//!
//! It guarantees that a charge under one idempotency key happens once, and that money which moved is in a durable
//! ledger. It does not guarantee an answer: it may fail before or after the money moved, and it may be slow.
//!
//! Where to look:
//!
//! - `domain`: its decisions; `commands`: charge and refund; `http`: the API, with the knobs; `store`: all SQL.

mod app;
mod commands;
mod config;
mod domain;
mod error;
mod http;
mod store;

pub use app::App;
pub use config::Config;
