//! The control room: the front page, and what it shows and does.
//!
//! It keeps nothing: what it knows is a cache of what the services know, filled from their APIs and kept fresh by what it
//! overhears on the broker. Where to look:
//!
//! - [`domain`]: the board of recent orders, pure;
//! - `commands`: the board and the feed to whoever watches; `consumer`: what it overhears;
//! - `worker`: what it asks the services for, while somebody watches; `client`: how it asks;
//! - `http`: the page, the stream, the break-it controls, the operator's part; `app`: how the parts are put together.

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
