//! Children that never outlive their parent, however it ends.

#[cfg(test)]
mod tests;

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

/// The variable in the environment of every child that names its stack. `cargo xtask down` finds by it the children of
/// a parent that was killed.
pub const MARK: &str = "HOLDFAST_STACK";

/// Set by SIGINT and SIGTERM.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes SIGINT and SIGTERM set a flag instead of ending this process.
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

/// Returns true after SIGINT or SIGTERM.
pub fn is_interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Calls `done` every 20 ms until it returns a value; fails after `patience`, or after SIGINT or SIGTERM.
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

/// Sleeps between two looks at something that cannot be waited for, such as a process or a port.
#[expect(clippy::disallowed_methods, reason = "the pause of a polling loop")]
pub fn nap(pause: Duration) {
    std::thread::sleep(pause);
}

/// The user as which a child runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

impl User {
    /// Returns the user of this name, if there is one.
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

    /// Gives the user a file or folder, with everything in it.
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

/// A program with its arguments, environment and place, to be started any number of times.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The name in messages.
    pub name: String,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    /// The environment, on top of PATH, LANG, HOME and RUST_BACKTRACE.
    pub environment: Vec<(String, String)>,
    /// The working directory.
    pub folder: PathBuf,
    /// The user; `None` for the user of this process.
    pub user: Option<User>,
    /// The file to which its output is appended.
    pub log: PathBuf,
    /// The stack that it belongs to.
    pub stack: PathBuf,
    /// The signal by which it is stopped.
    pub stop: i32,
}

impl Recipe {
    /// Returns the command, tied to the thread that spawns it.
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

    /// Starts it. To be called on the main thread: the child is killed when the thread that started it ends.
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

/// Has the child killed when the thread that starts it ends, and takes it out of our process group: Ctrl-C in the
/// terminal then reaches this process alone, which stops its children in the right order.
fn tie(command: &mut Command) {
    command.process_group(0);
    let parent = std::process::id();
    // SAFETY: between fork and exec it calls only prctl and getppid, which are async-signal-safe.
    #[expect(unsafe_code, reason = "prctl in the child, before exec")]
    unsafe {
        command.pre_exec(move || {
            // After the change of user, which would reset the signal.
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
    /// The recipe by which it was started.
    pub recipe: Recipe,
    child: Child,
    /// The time at which it was started.
    pub started: Instant,
}

impl Process {
    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // SAFETY: the child has not been waited for, so the id is still its own.
            #[expect(unsafe_code, reason = "the standard library has no kill but SIGKILL")]
            unsafe {
                libc::kill(pid, signal);
            }
        }
    }

    /// Kills it by SIGKILL, and waits until it has ended.
    pub fn kill(&mut self) -> Result {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends the signal by which it is stopped, and kills it if it has not ended within `patience`.
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
        // An error means that it has ended already.
        let _ = self.kill();
    }
}

/// A command in a process group of its own. Dropping this before the command has ended kills the whole group: the
/// programs that it started would go on.
#[derive(Debug)]
pub struct Group(Child);

impl Group {
    /// Starts a command. It is killed when the calling thread ends.
    pub fn start(command: &mut Command) -> Result<Self> {
        tie(command);
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().context(format!("cannot run {name}"))?;
        Ok(Self(child))
    }

    /// Returns the exit status of the command, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(None)) {
            return;
        }
        if let Ok(group) = i32::try_from(self.0.id()) {
            // SAFETY: the group of a child that has not been waited for, so the id is still its own.
            #[expect(unsafe_code, reason = "the standard library kills one process only")]
            unsafe {
                libc::kill(-group, libc::SIGKILL);
            }
        }
        // An error means that it has ended already.
        let _ = self.0.wait();
    }
}

/// Runs a command to its end, with its output in `log`; the error of one that fails has the end of that output. An
/// interrupt kills it with everything that it started.
pub fn run(command: &mut Command, log: &Path) -> Result {
    let output = open_log(log).context(log.display())?;
    command
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output);
    let name = command.get_program().to_string_lossy().into_owned();
    let mut group = Group::start(command)?;
    let status = loop {
        if let Some(status) = group.ended()? {
            break status;
        }
        if is_interrupted() {
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

/// Returns the last lines of a log, indented, under its path.
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

/// Returns every process, except this one, that carries [`MARK`] with a path that begins with `within`.
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
