//! `cargo xtask load`: puts load on a stack, and reports.

use std::process::{Command, ExitCode};

use lexopt::Parser;

use super::{exit_code, install, up::attend};
use crate::{
    Context, Result, error,
    progress::say,
    settings::Given,
    stack::{Options, Stack},
    wiring::{SERVICES, database_of},
    workspace,
};

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut url, mut no_install, mut passed_on) = (None, false, Vec::new());
    let mut raw = arguments.raw_args()?;
    while let Some(argument) = raw.next() {
        if argument == "--url" {
            let value = raw.next().ok_or_else(|| {
                error("--url needs the address of a front door, such as http://127.0.0.1:8080")
            })?;
            url = Some(value.to_string_lossy().trim_end_matches('/').to_owned());
        } else if argument == "--no-install" {
            no_install = true;
        } else {
            passed_on.push(argument);
        }
    }
    // Before the stack, which would compete with the compiler.
    build()?;
    if let Some(url) = url {
        let mut load = Command::new(workspace::release_binary("load"));
        load.current_dir(workspace::root())
            .envs(places(&url))
            .args(passed_on);
        let status = load.status().context("load")?;
        return Ok(exit_code(status));
    }
    let mut stack = Stack::start(&Options {
        name: "load-stack",
        install: install(no_install),
        database_each: false,
        failpoints: false,
        release: true,
        room: false,
        given: Given::default(),
        extra: Vec::new(),
    })?;
    let mut load = stack.tool("load");
    let status = attend(&mut stack, load.args(passed_on));
    let died = stack.died();
    say("stopping");
    stack.shut_down()?;
    say("stopped");
    let status = status?;
    if !died.is_empty() {
        return Err(error(format!("died under the load: {}", died.join(", "))));
    }
    Ok(exit_code(status))
}

/// Builds the load generator, without other packages: the features that goose wants of shared dependencies must not
/// change what the services are built of.
fn build() -> Result {
    say("building the load generator, optimised; the first time takes minutes");
    let built = workspace::cargo()
        .args([
            "build",
            "--release",
            "-p",
            "load-tests",
            "--features",
            "load",
            "--bin",
            "load",
        ])
        .status()
        .context("cargo build")?;
    if built.success() {
        Ok(())
    } else {
        Err(error(format!("cargo build failed ({built})")))
    }
}

/// Returns the addresses of everything behind a front door, without the variables that the environment sets already.
fn places(url: &str) -> Vec<(String, String)> {
    let variable =
        |service: &str, what: &str| format!("{}_{what}", service.to_uppercase().replace('-', "_"));
    let mut places: Vec<(String, String)> = SERVICES
        .iter()
        .map(|service| (variable(service, "URL"), format!("{url}/api/{service}")))
        .collect();
    match database() {
        Some(host) => {
            let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
            places.push((
                "RABBITMQ_API".to_owned(),
                format!("{scheme}://auditor:development-auditor@{rest}/rabbitmq/api"),
            ));
            places.extend(SERVICES.iter().map(|service| {
                (
                    variable(service, "DATABASE_URL"),
                    format!(
                        "postgres://auditor:development-auditor@{host}:5432/{}",
                        database_of(service)
                    ),
                )
            }));
        }
        None => say("there is no PostgreSQL container of `docker compose` on this machine"),
    }
    places.retain(|(name, _)| std::env::var_os(name).is_none());
    places
}

/// Returns the address of the database's container. Only the front door is published, but this machine reaches
/// containers by their own addresses.
fn database() -> Option<String> {
    let output = |command: &mut Command| {
        let output = command.current_dir(workspace::root()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    };
    let id = output(Command::new("docker").args(["compose", "ps", "--quiet", "postgres"]))?;
    output(Command::new("docker").args([
        "inspect",
        "--format",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        &id,
    ]))
}
