//! Orders of every ending, once or at a rate.

mod ending;
mod once;
mod run;
mod seed;

pub use ending::{Cancel, Ending};
pub use once::once;
pub use run::{Plan, run};
pub use seed::seed;
