//! Orders of every ending, once or at a rate.

mod coordination;
mod ending;
mod once;
mod run;
mod seed;

pub use coordination::{Coordination, Ways};
pub use ending::{Cancel, Ending};
pub use once::once;
pub use run::{Plan, run};
pub use seed::seed;
