//! Private servers: found or installed, and started on free ports without touching any that run already.

mod install;
mod postgres;
mod prometheus;
mod rabbitmq;
mod redis;

use std::path::{Path, PathBuf};

use crate::{Result, process::User, workspace};

pub use install::{
    Install, Installed, find_or_install, find_or_install_browser, find_or_install_prometheus,
};
pub use postgres::{Durability, Postgres};
pub use prometheus::Prometheus;
pub use rabbitmq::RabbitMq;
pub use redis::Redis;

/// Returns the first of these programs that is on the PATH.
fn on_path(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    names.iter().find_map(|name| {
        std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .find(|program| is_program(program))
    })
}

/// Gives a folder to the user of a server's package. Returns `None` if this process is not root, or if there is no such
/// user: then the server runs as this process does.
fn given_to(package: &str, folder: &Path) -> Result<Option<User>> {
    let user = if workspace::is_root() {
        User::named(package)
    } else {
        None
    };
    if let Some(user) = user {
        user.own(folder)?;
    }
    Ok(user)
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path)
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
