//! `cargo xtask verify openapi|clients|schemathesis`: third-party tools, applied to the services' OpenAPI documents.
//!
//! Their versions are pinned in `e2e/strangers`. They are installed below `target/tools`, by pip and npm, and kept
//! there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use lexopt::{Arg, Parser, ValueExt};

use super::{install, up::attend};
use crate::{
    Context, Result, error,
    process::MARK,
    progress::say,
    settings::Given,
    stack::{Options, Stack},
    wiring::{ROOM, SERVICES},
    workspace,
};

/// The linter, whose recommended rules the documents keep.
const REDOCLY: &str = "@redocly/cli@2.77.0";

/// Returns the folder with the pinned versions and the scripts.
fn folder() -> PathBuf {
    workspace::root().join("e2e/strangers")
}

/// Returns true if a program can be run with `--version`.
fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn succeed(command: &mut Command) -> Result {
    let name = command.get_program().display().to_string();
    let status = command.status().context(format!("cannot run {name}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(error(format!("{name}: {status}")))
    }
}

/// Installs the packages of `e2e/strangers/NAME.txt`, and returns the folder of their programs; `None` if there is no
/// Python.
fn python(name: &str) -> Result<Option<PathBuf>> {
    if !is_there("python3") {
        say(format!("there is no python3 here: {name} is left out"));
        return Ok(None);
    }
    let wanted = folder().join(name).with_extension("txt");
    let home = workspace::target().join("tools").join(name);
    let (programs, mark) = (home.join("bin"), home.join("installed.txt"));
    let pinned = fs::read_to_string(&wanted).context(wanted.display())?;
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == pinned) {
        return Ok(Some(programs));
    }
    say(format!(
        "installing {} into {}",
        wanted.display(),
        home.display()
    ));
    let mut create = Command::new("python3");
    succeed(create.args(["-m", "venv", "--clear"]).arg(&home))?;
    let mut pip = Command::new(programs.join("pip"));
    let quietly = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ];
    succeed(pip.args(quietly).arg(&wanted))?;
    fs::write(&mark, pinned).context(mark.display())?;
    Ok(Some(programs))
}

/// Installs Redocly's linter, and returns its program; `None` if there is no Node.
fn redocly() -> Result<Option<PathBuf>> {
    if !is_there("npm") || !is_there("node") {
        say(format!("there is no node here: {REDOCLY} is left out"));
        return Ok(None);
    }
    let home = workspace::target().join("tools/redocly");
    let (program, mark) = (
        home.join("node_modules/.bin/redocly"),
        home.join("installed.txt"),
    );
    if fs::read_to_string(&mark).is_ok_and(|installed| installed == REDOCLY) {
        return Ok(Some(program));
    }
    say(format!("installing {REDOCLY} into {}", home.display()));
    fs::create_dir_all(&home).context(home.display())?;
    let mut npm = Command::new("npm");
    let quietly = ["install", "--silent", "--no-audit", "--no-fund", "--prefix"];
    succeed(npm.args(quietly).arg(&home).arg(REDOCLY))?;
    fs::write(&mark, REDOCLY).context(mark.display())?;
    Ok(Some(program))
}

fn document(service: &str) -> PathBuf {
    let name = format!("docs/openapi/{service}.json");
    workspace::root().join(name)
}

/// Validates the written documents. A test of e2e compares them with those that are served.
pub(super) fn documents(mut arguments: Parser) -> Result<ExitCode> {
    if let Some(other) = arguments.next()? {
        return Err(other.unexpected().into());
    }
    let documents: Vec<PathBuf> = SERVICES.into_iter().chain([ROOM]).map(document).collect();
    if let Some(programs) = python("documents")? {
        let mut validator = Command::new(programs.join("openapi-spec-validator"));
        succeed(validator.args(&documents))?;
    }
    if let Some(redocly) = redocly()? {
        let mut linter = Command::new(redocly);
        linter
            .args(["lint", "--config"])
            .arg(folder().join("redocly.yaml"))
            .args(&documents)
            .env("REDOCLY_TELEMETRY", "off")
            .env("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true");
        succeed(&mut linter)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Generates a client from each document, and uses it on a stack.
pub(super) fn clients(arguments: Parser) -> Result<ExitCode> {
    on_a_stack("clients", arguments)
}

/// Generates requests from each document, and checks every response against it, on a stack.
pub(super) fn schemathesis(arguments: Parser) -> Result<ExitCode> {
    on_a_stack("schemathesis", arguments)
}

/// Runs `e2e/strangers/NAME.py` on a stack of its own.
fn on_a_stack(name: &'static str, mut arguments: Parser) -> Result<ExitCode> {
    let (mut no_install, mut passed_on) = (false, Vec::new());
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("no-install") => no_install = true,
            Arg::Value(value) => passed_on.push(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let Some(programs) = python(name)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let mut stack = Stack::start(&Options {
        name: "strangers",
        install: install(no_install),
        database_each: false,
        // As `up` does: the routes of the demo mode are documented, too.
        failpoints: true,
        release: false,
        room: true,
        extra: vec![("DEMO_MODE".to_owned(), "true".to_owned())],
        given: Given::default(),
    })?;
    let status = run(name, &mut stack, &programs, &passed_on);
    stack.shut_down()?;
    let status = status?;
    if !status.success() {
        return Err(error(format!("{name}: {status}")));
    }
    Ok(ExitCode::SUCCESS)
}

fn run(name: &str, stack: &mut Stack, programs: &Path, passed_on: &[String]) -> Result<ExitStatus> {
    let mut seed = stack.tool("traffic");
    if !attend(stack, seed.arg("seed"))?.success() {
        return Err(error("cannot seed"));
    }
    let token = |who: &[&str]| -> Result<String> {
        let printed = stack.tool("token").args(who).output();
        let printed = printed.context("cannot run token")?.stdout;
        Ok(String::from_utf8_lossy(&printed).trim().to_owned())
    };
    let tokens = [
        ("CUSTOMER_TOKEN", token(&["alice"])?),
        ("OPERATOR_TOKEN", token(&["olivia", "--operator"])?),
        ("SERVICE_TOKEN", token(&["order", "--service"])?),
    ];
    let mut script = Command::new(programs.join("python"));
    script
        .arg(folder().join(name).with_extension("py"))
        .args(passed_on)
        .current_dir(workspace::root())
        .envs(stack.tools_environment())
        .envs(tokens)
        .env("CONTROL_ROOM_URL", stack.wiring.url(ROOM))
        .env("WORK_FOLDER", &stack.claim.folder)
        .env(MARK, &stack.claim.folder);
    attend(stack, &mut script)
}
