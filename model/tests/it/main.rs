//! Searches of the models: each scenario to its end, and long random walks. They need no server.

mod choreography;
mod interleavings;
mod interleavings_orchestrated;
mod orchestration;
