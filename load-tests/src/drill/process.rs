//! Processes of the stack: stopping one in the middle of its work, and starting a second one like it.

use std::{
    fs::{self, File},
    io,
    net::TcpListener,
    os::unix::{ffi::OsStringExt, process::CommandExt},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::Instant;

use crate::load::processes::{Whose, carries, of_stack};

/// The longest time for a service to shut down.
const STOP: Duration = Duration::from_secs(40);

/// A variable that marks the processes a drill has started. A later drill ends those of one that was killed.
const MARK: &str = "HOLDFAST_DRILL";

/// A process of a service, as `cargo xtask up` started it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process(Pid);

/// A process that is stopped by SIGSTOP, until this is dropped.
#[derive(Debug)]
pub(super) struct Stopped(Process);

/// A second process of a service, on the same database, queues and Redis. Dropping this kills it.
#[derive(Debug)]
pub(super) struct Another {
    child: Child,
    /// The address on which it listens.
    pub(super) url: String,
}

impl Process {
    /// Returns all processes of the stack that run this program; none if the stack is not of `cargo xtask`.
    pub(super) fn all(whose: &Whose, program: &str) -> Vec<Self> {
        let Whose::Stack(stack) = whose else {
            return Vec::new();
        };
        of_stack(stack, program)
            .into_iter()
            .filter_map(|pid| Pid::from_raw(pid.try_into().ok()?))
            .map(Self)
            .collect()
    }

    /// Undoes what a killed drill left: continues the processes that run this program, and kills those that a drill
    /// started.
    pub(super) fn mend(whose: &Whose, program: &str) {
        for process in Self::all(whose, program) {
            process.go_on();
            let pid = process.id().unsigned_abs();
            if carries(pid, MARK, "yes") {
                // An error means that it has ended. Its work is repeated by another process.
                let _ = kill_process(process.0, Signal::KILL);
            }
        }
    }

    /// Returns the only process that runs this program; fails if there is none, or more than one.
    pub(super) fn only(whose: &Whose, program: &str) -> anyhow::Result<Self> {
        match *Self::all(whose, program) {
            [process] => Ok(process),
            [] => anyhow::bail!(
                "this drill stops a process of {program}, and found none: it needs a stack of `cargo xtask up` on this machine"
            ),
            _ => anyhow::bail!("this drill needs one process of {program}, and found more"),
        }
    }

    /// Returns the stack's mail server.
    pub(super) fn mail_server(whose: &Whose) -> Option<Self> {
        Self::all(whose, "smtp-sink").pop()
    }

    /// Returns the process id.
    pub(super) fn id(self) -> i32 {
        self.0.as_raw_nonzero().get()
    }

    /// Stops the process by SIGSTOP: it runs no instruction until the returned guard is dropped, and cannot know that
    /// it was stopped.
    pub(super) fn stop(self) -> io::Result<Stopped> {
        kill_process(self.0, Signal::STOP)?;
        Ok(Stopped(self))
    }

    /// Continues the process, if it is stopped.
    pub(super) fn go_on(self) {
        // An error means that it has ended.
        let _ = kill_process(self.0, Signal::CONT);
    }

    /// Starts a second process with the program, environment and log of this one, on another port.
    pub(super) fn another(self) -> anyhow::Result<Another> {
        let of = |what: &str| format!("/proc/{}/{what}", self.id());
        let environment = fs::read(of("environ")).context("its environment")?;
        let variables = environment.split(|byte| *byte == 0).filter_map(|entry| {
            let at = entry.iter().position(|byte| *byte == b'=')?;
            let text = |bytes: &[u8]| std::ffi::OsString::from_vec(bytes.to_vec());
            Some((text(&entry[..at]), text(&entry[at + 1..])))
        });
        let log = || File::options().append(true).open(of("fd/1"));
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let arguments = fs::read(of("cmdline")).context("its name")?;
        let name = arguments.split(|byte| *byte == 0).next();
        // The running program's file: the one at its path may have been built anew since.
        let child = Command::new(of("exe"))
            .arg0(std::ffi::OsString::from_vec(
                name.unwrap_or_default().to_vec(),
            ))
            .current_dir(fs::read_link(of("cwd"))?)
            .env_clear()
            .envs(variables)
            .env("HTTP_LISTEN", listen.to_string())
            .env(MARK, "yes")
            .stdin(Stdio::null())
            .stdout(log().context("its log")?)
            .stderr(log()?)
            .spawn()
            .context("cannot start a second one")?;
        Ok(Another {
            child,
            url: format!("http://{listen}"),
        })
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.go_on();
    }
}

impl Another {
    /// Returns the process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process by SIGTERM, and waits until it has shut down.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().try_into().ok().and_then(Pid::from_raw);
        kill_process(pid.context("a process has a number")?, Signal::TERM)?;
        let until = Instant::now() + STOP;
        while self.child.try_wait()?.is_none() {
            anyhow::ensure!(Instant::now() < until, "the second process does not stop");
            holdfast::backoff::pause(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Drop for Another {
    fn drop(&mut self) {
        // An error means that it has ended. Its work is repeated by another process.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
