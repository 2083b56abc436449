//! The card processor: a stand-in for the outside card company, as unreliable as one likes.
//!
//! It keeps its promises all the same: a charge under one idempotency key happens once, and what happened is in a durable
//! ledger. What it does not promise is an answer: it may fail before or after the money moved, and it may take its time.
//!
//! Where to look:
//!
//! - `domain`: what it decides; `commands`: charge and refund; `http`: the API, with the knobs; `store`: all SQL.

mod app;
mod commands;
mod config;
mod domain;
mod error;
mod http;
mod store;

pub use app::App;
pub use config::Config;
