//! The front page of the control room, used in a real browser. With the feature `page` alone.

mod browser;
pub mod docs;
pub mod looks;
pub mod walk;

pub use browser::Browser;
