//! The orchestrator: carries orchestrated orders to their end, by durable sagas.
//!
//! Where to look:
//!
//! - [`domain`]: the two sagas as data, and what their commands are made of;
//! - `consumer`: what it is asked to start, and what is answered to it; `worker`: asks again for what is overdue;
//! - `http`: what operators see and do;
//! - `commands`: the use cases that these have in common, on the caller's transaction; `app`: how the parts are put together.
//!
//! How a saga is carried out is [`holdfast::saga`]; it has the tables, too.

mod app;
mod commands;
mod config;
mod consumer;
pub mod domain;
mod error;
mod http;
mod store;
mod worker;

pub use app::App;
pub use config::Config;
