//! `cargo xtask`: see `cargo xtask help`.

use std::process::ExitCode;

use xtask::{commands, progress};

fn main() -> ExitCode {
    progress::elapsed();
    match commands::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
