//! The front page of the control room, driven in a real browser. Built only with the feature `page`.

mod browser;
pub mod docs;
pub mod looks;
pub mod walk;

pub use browser::Browser;
