//! The chassis through its public surface. What it does over HTTP is tested with each service.

mod identity;
mod telemetry;
mod trace_context;
