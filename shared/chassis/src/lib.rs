//! The chassis: the parts that every Holdfast service has, so that a service's own code is about its own subject.
//!
//! *Microservice chassis* is the field's name for it (Chris Richardson, "Microservices Patterns", 11.4).
//!
//! - [`settings`]: the environment variables that all services share;
//! - [`Chassis`]: database, broker, HTTP server and background work, started and stopped in the right order;
//! - [`http`]: problem+json, request extractors that name what is invalid in a request, and the caller's deadline;
//! - `server`: limits, metrics and traces of each request, before a handler sees it;
//! - [`Routes`]: serves handlers and documents them, as OpenAPI, in one step;
//! - [`identity`]: the caller of a request, and its role;
//! - [`health`], [`operator`]: `/health/*`, `/metrics`, and the parked messages;
//! - [`events`]: from a typed message to an outbox row;
//! - [`client`]: calls to another service within the caller's deadline;
//! - [`dependencies`]: the dependencies of a service, shown to operators and switched by them;
//! - `demo`: faults that a demonstration may cause, with `DEMO_MODE=true` alone;
//! - [`tally`]: metrics that are counted once the transaction has committed;
//! - [`trace`]: the attributes of orders in traces;
//! - `wording`: errors about invalid input, in the words of its sender.

#![warn(missing_docs)]

pub mod client;
pub mod database;
mod demo;
pub mod dependencies;
pub mod events;
pub mod health;
pub mod http;
pub mod identity;
mod openapi;
pub mod operator;
mod server;
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
