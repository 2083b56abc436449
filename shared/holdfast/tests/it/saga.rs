//! Sagas on a real database: what is written, when, and what becomes of it.

mod broken;
mod counts;
mod definitions;
mod fixture;
mod operate;
mod run;
mod start;
mod sweep;
mod together;
mod versions;
mod view;
