//! The control room: the front page, and what it shows and does.
//!
//! It stores nothing: it caches what the services know, filled from their APIs and kept fresh by the messages that it
//! observes on the broker. Where to look:
//!
//! - [`domain`]: the board of recent orders, pure;
//! - `commands`: the board and the watchers' feed; `consumer`: the messages that it observes;
//! - `worker`: fills the board and polls the services; `client`: calls of the services;
//! - `http`: the page, the stream, the break-it controls, the operator's part; `app`: puts the parts together.

mod app;
mod client;
mod commands;
mod config;
mod consumer;
pub mod domain;
mod error;
mod http;
mod worker;

pub use app::App;
pub use config::Config;
