//! Sagas on a real database: what is written, and when.

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
