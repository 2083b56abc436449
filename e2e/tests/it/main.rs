//! Tests across services: whole orders through real processes, and the rules of the code.

mod auditor;
mod consumers;
mod crashes;
mod documents;
mod duplicates;
mod endings;
mod imports;
mod layers;
mod observability;
mod openapi;
mod outages;
mod poison;
mod room;
mod sagas;
mod settings;
mod style;
mod system;
mod topology;
mod traces;
