//! `cargo xtask verify page`: the front page in a browser, on a stack of its own or on one that runs.

use std::process::{Command, ExitCode};

use lexopt::{Arg, Parser, ValueExt};

use super::{install, up::attend};
use crate::{
    Context, Result, error,
    process::MARK,
    progress::say,
    servers::find_or_install_browser,
    settings::Given,
    stack::{Options, Stack},
    wiring::ROOM,
    workspace,
};

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut url, mut pictures, mut no_install) = (None, None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("url") => url = Some(arguments.value()?.string()?),
            Arg::Long("screenshots") => pictures = Some(arguments.value()?),
            Arg::Long("no-install") => no_install = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let install = install(no_install);
    find_or_install_browser(install, &workspace::target().join("chromium-install.log"))?;
    let built = workspace::cargo()
        .args(["build", "-p", "e2e", "--features", "page", "--bin", "page"])
        .status()
        .context("cannot run cargo")?;
    if !built.success() {
        return Err(error(format!("cargo build failed ({built})")));
    }
    let mut page = Command::new(workspace::binary("page"));
    if let Some(folder) = pictures {
        page.arg("--screenshots").arg(folder);
    }

    let status = if let Some(url) = url {
        page.arg("--url")
            .arg(url)
            .status()
            .context("cannot run page")?
    } else {
        let mut stack = Stack::start(&Options {
            name: "page",
            install,
            database_each: false,
            failpoints: true,
            release: false,
            room: true,
            given: Given::default(),
            extra: vec![("DEMO_MODE".to_owned(), "true".to_owned())],
        })?;
        let status = on(&mut stack, &mut page);
        stack.shut_down()?;
        status?
    };
    if !status.success() {
        return Err(error(format!("the front page: {status}")));
    }
    say("the front page passed its test");
    Ok(ExitCode::SUCCESS)
}

fn on(stack: &mut Stack, page: &mut Command) -> Result<std::process::ExitStatus> {
    let mut seed = stack.tool("traffic");
    let seeded = attend(stack, seed.arg("seed"))?;
    if !seeded.success() {
        return Err(error("cannot seed"));
    }
    let url = stack.wiring.url(ROOM);
    // The browser and its test are marked, so that they end with the stack.
    page.env(MARK, &stack.claim.folder);
    attend(stack, page.arg("--url").arg(url))
}
