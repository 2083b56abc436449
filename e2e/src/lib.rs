//! Tests across services, and the model of the protocol.
