//! Tests across services: the protocol's model, whole orders through real processes, and the rules of the code.

mod interleavings;
mod model;
