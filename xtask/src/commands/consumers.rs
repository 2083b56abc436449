//! `cargo xtask verify consumers`: the events, read by the examples in other languages (`e2e/consumers`,
//! docs/events.md).

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use lexopt::Parser;

use super::exit_code;
use crate::{Context, Result, error, progress::say, workspace};

/// The programs that the examples need, each with arguments that succeed if it is usable.
const NEEDED: [(&str, &[&str]); 3] = [
    ("python3", &["-c", "import ensurepip, venv"]),
    ("node", &["--version"]),
    ("npm", &["--version"]),
];

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    if let Some(unknown) = arguments.next()? {
        return Err(unknown.unexpected().into());
    }
    for (program, check) in NEEDED {
        if !succeeds(Command::new(program).args(check)) {
            return Err(error(format!(
                "verify consumers needs {program}, which is missing; on Debian: apt-get install python3-venv nodejs npm \
                 (Python 3.10 and Node 20, or newer)"
            )));
        }
    }
    let sources = workspace::root().join("e2e/consumers");
    let tools = workspace::target().join("tools/consumers");
    python(&sources.join("python"), &tools.join("python"))?;
    javascript(&sources.join("javascript"), &tools.join("javascript"))?;

    // Starts the servers, and runs the tests that run the examples against them.
    let xtask = env::current_exe().context("this program")?;
    let status = Command::new(xtask)
        .args(["test", "-p", "e2e", "--test", "it", "--"])
        .args(["consumers::", "--include-ignored"])
        .env("HOLDFAST_CONSUMERS", &tools)
        .status()
        .context("cannot run xtask")?;
    if status.success() {
        say("Python and JavaScript read what the services publish");
    }
    Ok(exit_code(status))
}

/// Makes an environment with the packages of `requirements.txt`, unless it exists.
fn python(source: &Path, environment: &Path) -> Result {
    let requirements = source.join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).context(requirements.display())?;
    let stamp = environment.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say("installing the Python packages");
    let venv = Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(environment)
        .status();
    expect("python3 -m venv", venv)?;
    let pip = Command::new(environment.join("bin/pip"))
        .args([
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .arg("--requirement")
        .arg(&requirements)
        .status();
    expect("pip install", pip)?;
    fs::write(&stamp, wanted).context(stamp.display())
}

/// Copies the example beside its packages, which are installed unless they are there.
fn javascript(source: &Path, folder: &Path) -> Result {
    fs::create_dir_all(folder).context(folder.display())?;
    let lock = source.join("package-lock.json");
    let wanted = fs::read(&lock).context(lock.display())?;
    for file in ["package.json", "package-lock.json", "consumer.js"] {
        fs::copy(source.join(file), folder.join(file)).context(file)?;
    }
    let stamp = folder.join("installed.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    say("installing the JavaScript packages");
    let npm = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(folder)
        .status();
    expect("npm ci", npm)?;
    fs::write(&stamp, wanted).context(stamp.display())
}

fn succeeds(command: &mut Command) -> bool {
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

fn expect(what: &str, status: std::io::Result<std::process::ExitStatus>) -> Result {
    let status = status.context(what)?;
    if status.success() {
        Ok(())
    } else {
        Err(error(format!("{what}: {status}")))
    }
}
