//! What this service keeps is what the saga pattern keeps: its tables, its SQL. Nothing here is the service's own.

pub(crate) use holdfast::saga::{Counts, counts, list, migrator};
