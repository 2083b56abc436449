//! Children that never outlive their parent, however it ends.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{Context, Result, error};

/// In the environment of every child: whose it is. `cargo xtask down` finds by it what a parent left that was killed.
pub const MARK: &str = "HOLDFAST_STACK";

/// Set by Ctrl-C and SIGTERM.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM do not end this process but set a flag.
pub fn catch_signals() -> Result {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic.
        #[expect(unsafe_code, reason = "registering a signal handler")]
        unsafe {
            signal_hook::low_level::register(signal, || INTERRUPTED.store(true, Ordering::Relaxed))
        }
        .context("cannot handle signals")?;
    }
    Ok(())
}

/// Whether somebody wants this to end.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Asks every 20 ms until `done` answers something; fails after `patience`, or when somebody wants this to end.
pub fn wait_for<T>(
    what: &str,
    patience: Duration,
    mut done: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = done()? {
            return Ok(answer);
        }
        if is_interrupted() {
            return Err(error("interrupted"));
        }
        if begun.elapsed() > patience {
            return Err(error(format!(
                "{what}: not within {} s",
                patience.as_secs()
            )));
        }
        nap(Duration::from_millis(20));
    }
}

/// Between two looks at something that tells nobody when it changes: a process, a port.
#[expect(clippy::disallowed_methods, reason = "the pause of a polling loop")]
pub fn nap(pause: Duration) {
    std::thread::sleep(pause);
}

/// Who a child runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl User {
    /// The user of this name, if there is one.
    pub fn named(name: &str) -> Option<Self> {
        let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
        let mut fields = passwd
            .lines()
            .map(|line| line.split(':'))
            .find(|fields| fields.clone().next() == Some(name))?;
        Some(Self {
            uid: fields.nth(2)?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    }

    /// Gives it a file or folder, with everything in it.
    pub fn own(self, path: &Path) -> Result {
        let status = Command::new("chown")
            .arg("-R")
            .arg(format!("{}:{}", self.uid, self.gid))
            .arg(path)
            .status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(error(format!(
                "cannot give {} to user {}",
                path.display(),
                self.uid
            ))),
        }
    }
}

/// How to start a child.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// What it is called.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment, on top of PATH, LANG and HOME.
    pub environment: Vec<(String, String)>,
    /// Where it runs.
    pub folder: PathBuf,
    /// Who it runs as; who we are, if not given.
    pub user: Option<User>,
    /// Where its output goes.
    pub log: PathBuf,
    /// The stack that it belongs to.
    pub stack: PathBuf,
    /// What asks it to stop.
    pub stop: i32,
}

impl Recipe {
    /// The command for it, tied to the thread that spawns it.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .current_dir(&self.folder)
            .env_clear();
        for kept in ["PATH", "LANG", "HOME", "RUST_BACKTRACE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env(MARK, &self.stack);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        let log = open_log(&self.log).context(self.log.display())?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        tie(&mut command);
        Ok(command)
    }

    /// Starts it. From the main thread: the child ends when the thread ends that started it.
    pub fn start(&self) -> Result<Process> {
        let child = self.command()?.spawn().context(format!(
            "cannot start {} ({})",
            self.name,
            self.program.display()
        ))?;
        Ok(Process {
            recipe: self.clone(),
            child,
            started: Instant::now(),
        })
    }
}

fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Has the child killed when its parent's thread ends, and takes it out of our process group: Ctrl-C in the terminal reaches
/// us alone, and we stop the children in the right order.
fn tie(command: &mut Command) {
    command.process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec it calls only prctl and getppid, which are async-signal-safe.
    #[expect(unsafe_code, reason = "prctl in the child, before exec")]
    unsafe {
        command.pre_exec(move || {
            // After the change of user, which would clear it.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before that line.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::other("the parent is gone"));
            }
            Ok(())
        });
    }
}

/// A running child.
#[derive(Debug)]
pub struct Process {
    /// How it was started.
    pub recipe: Recipe,
    child: Child,
    /// When it was started.
    pub started: Instant,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: a child that was not waited for yet, so that the id is still its own.
            #[expect(unsafe_code, reason = "the standard library has no kill but SIGKILL")]
            unsafe {
                libc::kill(pid, signal);
            }
        }
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and kills it when it has not within `patience`.
    pub fn stop(&mut self, patience: Duration) -> Result {
        self.signal(self.recipe.stop);
        let begun = Instant::now();
        while begun.elapsed() < patience {
            if self.ended()?.is_some() {
                return Ok(());
            }
            nap(Duration::from_millis(10));
        }
        self.kill()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it is gone already.
        let _ = self.kill();
    }
}

/// Starts a command in a process group of its own, to be ended with [`kill_group`]. It ends when the thread ends that started it.
pub fn spawn_tied(command: &mut Command) -> Result<Child> {
    tie(command);
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().context(format!("cannot run {name}"))
}

/// Kills a child of [`spawn_tied`] with all that it has started, and waits until it is gone.
pub fn kill_group(child: &mut Child) -> Result {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: the group of a child that was not waited for yet, so that the id is still its own.
        #[expect(unsafe_code, reason = "the standard library kills one process only")]
        unsafe {
            libc::kill(-group, libc::SIGKILL);
        }
    }
    child.wait()?;
    Ok(())
}

/// Runs a command to its end, with its output in `log`; fails with the end of that output.
pub fn run(command: &mut Command, log: &Path) -> Result {
    let output = open_log(log).context(log.display())?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = spawn_tied(command)?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if is_interrupted() {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error("interrupted"));
        }
        nap(Duration::from_millis(20));
    };
    if status.success() {
        Ok(())
    } else {
        Err(error(format!(
            "{name} failed ({status}):\n{}",
            tail(log, 15)
        )))
    }
}

/// The last lines of a log.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    let last: Vec<String> = all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| format!("    {line}"))
        .collect();
    format!("  the end of {}:\n{}", log.display(), last.join("\n"))
}

/// Every process that carries [`MARK`] with a folder below `within`.
pub fn marked(within: &Path) -> Vec<u32> {
    let mark = format!("{MARK}={}", within.display()).into_bytes();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environ| {
                environ
                    .split(|byte| *byte == 0)
                    .any(|variable| variable.starts_with(&mark))
            })
        })
        .collect()
}
