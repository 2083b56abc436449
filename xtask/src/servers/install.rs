//! Finds the servers' programs, and installs those that are missing.
//!
//! Root installs them by `apt-get install`, without starting or enabling the packages' own services. For any other user
//! the same packages are downloaded and unpacked into a folder of that user, and the system stays as it is. On a system
//! without apt-get an error lists what to install.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use super::{is_program, on_path};
use crate::{Context, Result, error, process, progress::say, workspace};

/// The packages, by Debian's names.
const PACKAGES: [&str; 3] = ["postgresql", "rabbitmq-server", "redis-server"];

/// The treatment of a program that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Install {
    /// It is installed.
    Allowed,
    /// It is reported as an error.
    Refused,
}

/// The paths of the servers' programs.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The folder with initdb, postgres and psql.
    pub postgres: PathBuf,
    /// The script that becomes the broker.
    pub rabbitmq: PathBuf,
    /// The name server of Erlang nodes.
    pub epmd: PathBuf,
    /// The program redis-server.
    pub redis: PathBuf,
    /// The variables with which the programs run where they are.
    pub environment: Vec<(String, String)>,
}

impl Installed {
    /// Returns the value of `LD_LIBRARY_PATH` for the programs; `None` if the system has their libraries.
    pub fn libraries(&self) -> Option<&str> {
        self.environment
            .iter()
            .find(|(name, _)| name == "LD_LIBRARY_PATH")
            .map(|(_, value)| value.as_str())
    }
}

/// Finds the servers' programs; installs those that are missing, if that is allowed.
pub fn find_or_install(install: Install, log: &Path) -> Result<Installed> {
    if let Some(installed) = find_in_system().or_else(find_unpacked) {
        return Ok(installed);
    }
    let packages = PACKAGES.join(" ");
    if install == Install::Refused {
        return Err(error(format!(
            "missing: {packages}. Install them, or leave out --no-install."
        )));
    }
    if on_path(&["apt-get"]).is_none() {
        return Err(error(format!(
            "missing: PostgreSQL 15, RabbitMQ 3.10 and Redis 7.0, or newer (Debian's packages {packages}). This system has no \
             apt-get: please install them, so that `initdb`, `psql`, `rabbitmq-server` and `redis-server` are on the PATH."
        )));
    }
    if workspace::is_root() {
        say(format!(
            "installing {packages} with apt-get; their own services are neither started nor enabled"
        ));
        install_as_root(&PACKAGES, log)?;
        find_in_system()
    } else {
        let folder = unpacked();
        say(format!(
            "unpacking {packages} into {}; the system stays as it is",
            folder.display()
        ));
        unpack(&folder, log)?;
        find_unpacked()
    }
    .ok_or_else(|| {
        error(format!(
            "{packages} are installed, but their programs are not where they should be"
        ))
    })
}

/// Finds Prometheus, which only `verify alerts` needs; as root, installs it, if that is allowed.
pub fn find_or_install_prometheus(install: Install, log: &Path) -> Result<PathBuf> {
    if let Some(found) = on_path(&["prometheus"]) {
        return Ok(found);
    }
    let may = install == Install::Allowed && workspace::is_root();
    if !may || on_path(&["apt-get"]).is_none() {
        return Err(error(
            "missing: prometheus, 2.42 or newer. Please install it, so that it is on the PATH.",
        ));
    }
    say("installing prometheus with apt-get; its own service is neither started nor enabled");
    install_as_root(&["prometheus"], log)?;
    on_path(&["prometheus"]).ok_or_else(|| error("prometheus is installed, but is not on the PATH"))
}

/// Checks for Chromium and its driver, which only tests of the front page need; as root, installs them, if that is
/// allowed.
pub fn find_or_install_browser(install: Install, log: &Path) -> Result {
    let is_there = || on_path(&["chromedriver"]).is_some() && on_path(&["chromium"]).is_some();
    if is_there() {
        return Ok(());
    }
    let packages = ["chromium", "chromium-driver"];
    let may = install == Install::Allowed && workspace::is_root();
    if !may || on_path(&["apt-get"]).is_none() {
        return Err(error(format!(
            "missing: Chromium and its driver. Please install them (Debian's packages {}), so that `chromium` and \
             `chromedriver` are on the PATH.",
            packages.join(" ")
        )));
    }
    say(format!("installing {} with apt-get", packages.join(" ")));
    install_as_root(&packages, log)?;
    if is_there() {
        Ok(())
    } else {
        Err(error(
            "Chromium is installed, but its programs are not on the PATH",
        ))
    }
}

/// Returns the newest PostgreSQL of a Debian below `system`.
fn find_postgres(system: &Path) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir(system.join("usr/lib/postgresql"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| is_program(&bin.join("initdb")) && is_program(&bin.join("psql")))
        .collect();
    versions.sort();
    versions.pop().map(|(_, bin)| bin)
}

fn find_in_system() -> Option<Installed> {
    let system = Path::new("/");
    let postgres =
        find_postgres(system).or_else(|| Some(on_path(&["initdb"])?.parent()?.to_path_buf()))?;
    // Debian's /usr/sbin/rabbitmq-server is a wrapper that insists on its own user and log folder; this is the script
    // that it wraps.
    let debian = PathBuf::from("/usr/lib/rabbitmq/bin/rabbitmq-server");
    let rabbitmq = if is_program(&debian) {
        debian
    } else {
        on_path(&["rabbitmq-server"])?
    };
    let epmd = on_path(&["epmd"])?;
    let redis = on_path(&["redis-server"])?;
    Some(Installed {
        postgres,
        rabbitmq,
        epmd,
        redis,
        environment: Vec::new(),
    })
}

/// Returns the folder in which packages are unpacked for a user who is not root.
fn unpacked() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))
        .unwrap_or_else(workspace::target);
    cache.join("holdfast/servers")
}

fn find_unpacked() -> Option<Installed> {
    let root = unpacked();
    if !root.join("complete").exists() {
        return None;
    }
    let versions = fs::read_dir(root.join("usr/lib/rabbitmq/lib")).ok()?;
    let rabbitmq = versions
        .filter_map(|entry| Some(entry.ok()?.path().join("sbin/rabbitmq-server")))
        .find(|p| is_program(p))?;
    let libraries: Vec<String> = ["usr/lib", "lib"]
        .iter()
        .flat_map(|lib| fs::read_dir(root.join(lib)).into_iter().flatten())
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.is_dir()
                && path
                    .file_name()
                    .is_some_and(|n| n.to_string_lossy().contains("-linux-gnu"))
        })
        .map(|path| path.display().to_string())
        .collect();
    let path = std::env::var("PATH").unwrap_or_default();
    Some(Installed {
        postgres: find_postgres(&root)?,
        rabbitmq,
        epmd: root.join("usr/bin/epmd"),
        redis: Some(root.join("usr/bin/redis-server")).filter(|program| is_program(program))?,
        environment: vec![
            ("LD_LIBRARY_PATH".to_owned(), libraries.join(":")),
            // Our copy of `erl` comes first: Debian's has its folder written into it.
            (
                "PATH".to_owned(),
                format!("{0}/erl:{0}/usr/bin:{path}", root.display()),
            ),
        ],
    })
}

/// Runs apt-get, with its output in `log`.
fn apt(arguments: &[&str], log: &Path) -> Result {
    process::run(
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive"),
        log,
    )
}

fn install_as_root(packages: &[&str], log: &Path) -> Result {
    let _kept_quiet = KeptQuiet::begin()?;
    apt(&["update", "-q"], log).context("apt-get update")?;
    let mut arguments = vec![
        "install",
        "-y",
        "-q",
        "--no-install-recommends",
        "-o",
        "Dpkg::Options::=--force-confold",
    ];
    arguments.extend(packages);
    apt(&arguments, log).context("apt-get install")
}

/// Policies under which packages neither start nor enable their services, and PostgreSQL's makes no cluster. Dropping
/// this removes the temporary ones; those that keep the services disabled stay.
struct KeptQuiet {
    remove: Vec<PathBuf>,
}

impl KeptQuiet {
    fn begin() -> Result<Self> {
        let mut kept_quiet = Self { remove: Vec::new() };
        kept_quiet.write(
            "/usr/sbin/policy-rc.d",
            "#!/bin/sh\nexit 101\n",
            0o755,
            true,
        )?;
        let units = [
            "postgresql.service",
            "postgresql@.service",
            "rabbitmq-server.service",
            "epmd.service",
            "epmd.socket",
            "epmd@.service",
            "epmd@.socket",
            "redis-server.service",
            "redis-server@.service",
            "redis.service",
            "prometheus.service",
        ];
        let preset = units.map(|unit| format!("disable {unit}\n")).concat();
        // The file is ours by its name, and may date from a version with fewer servers.
        let presets = Path::new("/etc/systemd/system-preset");
        fs::create_dir_all(presets).context(presets.display())?;
        let file = presets.join("00-holdfast.preset");
        fs::write(&file, preset).context(file.display())?;
        let no_cluster = "create_main_cluster = false\n";
        kept_quiet.write(
            "/etc/postgresql-common/createcluster.conf",
            no_cluster,
            0o644,
            false,
        )?;
        Ok(kept_quiet)
    }

    /// Writes a file unless it exists: an existing one is not ours.
    fn write(&mut self, path: &str, text: &str, mode: u32, temporary: bool) -> Result {
        let path = PathBuf::from(path);
        if path.exists() {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).context(folder.display())?;
        }
        fs::write(&path, text).context(path.display())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context(path.display())?;
        if temporary {
            self.remove.push(path);
        }
        Ok(())
    }
}

impl Drop for KeptQuiet {
    fn drop(&mut self) {
        for path in &self.remove {
            // A file that stays affects only later installations, which report it.
            let _ = fs::remove_file(path);
        }
    }
}

/// Downloads and unpacks the packages that an installation would bring, below `root`.
fn unpack(root: &Path, log: &Path) -> Result {
    if root.exists() {
        fs::remove_dir_all(root).context(root.display())?;
    }
    let packages = root.join("packages");
    fs::create_dir_all(&packages).context(packages.display())?;

    // Only root can renew the system's lists of packages, so the existing ones are used.
    let plan = Command::new("apt-get")
        .args(["install", "-s", "--no-install-recommends"])
        .args(PACKAGES)
        .output()
        .context("apt-get install -s")?;
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    let names: Vec<&str> = plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst "))
        .filter_map(|rest| rest.split(' ').next())
        .collect();
    if names.is_empty() {
        return Err(error(
            "apt-get does not know the packages: run `apt-get update` as root, or install them as root",
        ));
    }
    process::run(
        Command::new("apt-get")
            .arg("download")
            .args(&names)
            .current_dir(&packages),
        log,
    )?;
    for entry in fs::read_dir(&packages).context(packages.display())? {
        let package = entry?.path();
        process::run(
            Command::new("dpkg-deb").arg("-x").arg(&package).arg(root),
            log,
        )?;
    }
    fs::remove_dir_all(&packages).context(packages.display())?;

    // Debian's `erl` has its folder written into it.
    let erlang = root.join("usr/lib/erlang");
    let script = fs::read_to_string(erlang.join("bin/erl")).context("the script erl")?;
    let script: String = script
        .lines()
        .map(|line| {
            if line.trim_start().starts_with("ROOTDIR=") {
                format!("ROOTDIR=\"{}\"\n", erlang.display())
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    let folder = root.join("erl");
    fs::create_dir_all(&folder).context(folder.display())?;
    fs::write(folder.join("erl"), script).context("our copy of erl")?;
    fs::set_permissions(folder.join("erl"), fs::Permissions::from_mode(0o755))
        .context("our copy of erl")?;
    fs::write(root.join("complete"), "").context("the mark of completeness")
}
