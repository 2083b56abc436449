//! The folders and binaries of the workspace, and the claim of a stack's folder.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use crate::{Context, Result, error};

/// Returns the folder of the workspace, which is the one above xtask's own.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Returns the folder in which cargo builds.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root().join(target),
        None => root().join("target"),
    }
}

/// Returns the path of a binary that is built for development.
pub fn binary(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// Returns the path of an optimised binary.
pub fn release_binary(name: &str) -> PathBuf {
    target().join("release").join(name)
}

/// Returns a cargo command that builds what one from the command line would.
///
/// This process was itself started by cargo, which set variables about the package xtask. Build scripts that read them
/// (ring's does) would run again after each change of their values, and all crates above them would be built again.
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

/// A package that is named beside others, to unify features: it wants those that any member of the workspace wants of
/// shared crates.
///
/// Cargo gives a crate the features that the named packages want of it. With other features it is another crate, and
/// all that depends on it is compiled once more; with this package every build has the same ones. Only benchmarks of
/// this package are ever built.
pub const FEATURES: &str = "benches";

/// Returns true if this process runs as root.
pub fn is_root() -> bool {
    // SAFETY: reads an id; cannot fail.
    #[expect(unsafe_code, reason = "the standard library has no geteuid")]
    unsafe {
        libc::geteuid() == 0
    }
}

/// The folder of a stack, held by one process at a time for as long as this value lives.
///
/// It is a lock of the kernel, which ends with the process however that ends, so that no lock blocks the next start.
#[derive(Debug)]
pub struct Claim {
    /// The folder for logs, mails and tokens.
    pub folder: PathBuf,
    /// The folder for the servers' data, in a place that their users can reach.
    pub data: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims `target/NAME`, and empties it. Fails if another process holds it.
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
            // In a checkout under /root, for example: PostgreSQL refuses to run as root, and its own user cannot get
            // there.
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

    /// Returns the name of every folder that was ever claimed: each has left its lock.
    pub fn all() -> Result<Vec<String>> {
        if !target().exists() {
            return Ok(Vec::new());
        }
        let mut names = Vec::new();
        for entry in std::fs::read_dir(target()).context("cannot read the target folder")? {
            let path = entry?.path();
            let is_lock = path
                .extension()
                .is_some_and(|extension| extension == "lock");
            if let Some(name) = path.file_stem().filter(|_| is_lock) {
                names.push(name.to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Returns the process that holds `target/NAME`, if there is one.
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

    /// Removes the servers' data after they have stopped. Logs and mails stay for inspection.
    pub fn discard_data(&self) {
        // A folder that cannot be removed now is removed by the next start.
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Opens the file of a lock, without truncating what its holder wrote.
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

/// Returns true if every user may pass through all folders on the way.
fn is_reachable(folder: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    folder.ancestors().all(|folder| {
        std::fs::metadata(folder).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0)
    })
}

/// Returns a hash that distinguishes checkouts (FNV-1a).
fn fingerprint(path: &Path) -> u64 {
    path.as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
