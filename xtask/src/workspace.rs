//! Where things are.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use crate::{Context, Result, error};

/// The folder of the workspace: the one above xtask's own.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Where cargo puts binaries, and where this one was put.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root().join(target),
        None => root().join("target"),
    }
}

/// A binary of the workspace, as built for development.
pub fn binary(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// A binary of the workspace, optimised.
pub fn release_binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// A cargo that builds what one from the command line would.
///
/// This process was itself started by cargo, which told it about the package xtask. Build scripts that look at those
/// variables (ring's does) would run again for each change between the two, and all that is above them be built again.
pub fn cargo() -> std::process::Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = std::process::Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}

/// A package to name beside others: it asks for the features that any member of the workspace asks of crates in common.
///
/// Cargo gives a crate the features that the packages named want of it. With other features it is another crate, and all that
/// depends on it is compiled once more; with this package every build has the same ones. Nothing of it is built but benchmarks.
pub const FEATURES: &str = "benches";

/// Whether this process may do everything.
pub fn is_root() -> bool {
    // SAFETY: reads an id; cannot fail.
    #[expect(unsafe_code, reason = "the standard library has no geteuid")]
    unsafe {
        libc::geteuid() == 0
    }
}

/// The folder of a stack, held by one process at a time for as long as this value lives.
///
/// A lock of the kernel's: it ends with the process, however that ends, so nothing blocks the next start.
#[derive(Debug)]
pub struct Claim {
    /// What belongs to the stack: logs, mails, tokens.
    pub folder: PathBuf,
    /// What belongs to the servers, in a place that their users can reach.
    pub data: PathBuf,
    _lock: File,
}

impl Claim {
    /// Takes `target/NAME`, empty.
    pub fn take(name: &str) -> Result<Self> {
        let folder = target().join(name);
        std::fs::create_dir_all(target()).context("cannot create the target folder")?;
        let path = target().join(format!("{name}.lock"));
        let mut lock = open_lock(&path).context(path.display())?;
        if lock.try_lock().is_err() {
            return Err(error(format!(
                "target/{name} is in use: stop the `cargo xtask` that runs (Ctrl-C there, or `cargo xtask down` here)"
            )));
        }
        lock.set_len(0).context(path.display())?;
        write!(lock, "{}", std::process::id()).context(path.display())?;
        empty(&folder)?;
        let data = if is_root() && !is_reachable(&target()) {
            // A checkout under /root, say: PostgreSQL refuses to run as root, and its own user cannot get here.
            let place = format!("/var/tmp/holdfast-{:x}-{name}", fingerprint(&root()));
            let place = PathBuf::from(place);
            empty(&place)?;
            place
        } else {
            folder.join("servers")
        };
        std::fs::create_dir_all(&data).context(data.display())?;
        Ok(Self {
            folder,
            data,
            _lock: lock,
        })
    }

    /// Returns the process that holds `target/NAME`, if one does.
    pub fn holder(name: &str) -> Result<Option<u32>> {
        let path = target().join(format!("{name}.lock"));
        if !path.exists() {
            return Ok(None);
        }
        let mut lock = open_lock(&path).context(path.display())?;
        if lock.try_lock_shared().is_ok() {
            return Ok(None);
        }
        let mut pid = String::new();
        lock.read_to_string(&mut pid).context(path.display())?;
        let pid = pid.trim().parse();
        let pid = pid.context(format!(
            "target/{name} is in use, and {} does not say by which process",
            path.display()
        ))?;
        Ok(Some(pid))
    }

    /// Removes the servers' data, when they have stopped. Logs and mails stay, for a look at them.
    pub fn discard_data(&self) {
        // What cannot be removed now is removed by the next start.
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Opens the file of a lock, with what its holder wrote in it.
fn open_lock(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path)
}

fn empty(folder: &Path) -> Result {
    if folder.exists() {
        std::fs::remove_dir_all(folder).context(format!("cannot empty {}", folder.display()))?;
    }
    std::fs::create_dir_all(folder).context(folder.display())
}

/// Whether everybody may pass through every folder on the way.
fn is_reachable(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    folder.ancestors().all(|folder| {
        std::fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}

/// Tells checkouts apart (FNV-1a).
fn fingerprint(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
