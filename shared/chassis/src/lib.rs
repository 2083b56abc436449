//! The chassis: what every Holdfast service has in common, so that a service's own code is about its own subject.
//!
//! *Microservice chassis* is the field's name for it (Chris Richardson, "Microservices Patterns", 11.4).
//!
//! - [`settings`]: the environment variables that all services share;
//! - [`Chassis`]: database, broker, HTTP server and background work, started and stopped in the right order;
//! - [`http`]: limits, problem+json, request extractors that say what is wrong with a request;
//! - [`Routes`]: serves handlers and documents them, as OpenAPI, in one step;
//! - [`identity`]: who is asking;
//! - [`health`], [`operator`]: `/health/*`, `/metrics`, and the parked messages;
//! - [`events`]: from a typed message to an outbox row;
//! - [`client`]: calling another service within the caller's deadline;
//! - [`dependencies`]: what it depends on, shown to operators and switched by them;
//! - `demo`: what a demonstration may break, with `DEMO_MODE=true` alone;
//! - [`leased`]: outward work that survives the death of its worker;
//! - [`tally`]: counting what is committed, once it is;
//! - [`trace`]: what traces say about orders;
//! - `wording`: what is wrong with what people send, in their words.

#![warn(missing_docs)]

pub mod client;
pub mod database;
mod demo;
pub mod dependencies;
pub mod events;
pub mod health;
pub mod http;
pub mod identity;
pub mod leased;
mod openapi;
pub mod operator;
mod service;
pub mod settings;
mod start;
pub mod tally;
pub mod trace;
mod wording;

pub use demo::Switch;
pub use openapi::Routes;
pub use service::Chassis;
pub use start::{on_signal, start};
