//! The parts that all faults on the stack of `docker-compose.yml` have in common: arguments, images, traffic.

use std::{
    fs,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use lexopt::{Arg, Parser, ValueExt};

use crate::{
    Context, Result,
    compose::{Compose, output},
    error, process,
    progress::say,
    workspace,
};

/// The longest time for everything to come to rest after a fault is mended.
pub(super) const REST: Duration = Duration::from_secs(180);

pub(super) struct Arguments {
    pub(super) rate: String,
    pub(super) only: Vec<String>,
    pub(super) build: bool,
    /// A part of the name of the one fault that is wanted.
    pub(super) fault: Option<String>,
}

pub(super) fn arguments(mut parser: Parser) -> Result<Arguments> {
    let mut arguments = Arguments {
        rate: "5".to_owned(),
        only: Vec::new(),
        build: true,
        fault: None,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("rate") => arguments.rate = parser.value()?.string()?,
            Arg::Long("fault") => arguments.fault = Some(parser.value()?.string()?),
            Arg::Long("no-build") => arguments.build = false,
            Arg::Value(name) => arguments.only.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(arguments)
}

/// Builds the programs and images of a stack of its own, in which nothing of an earlier one is left.
pub(super) fn fresh(arguments: &Arguments) -> Result<Compose> {
    let compose = Compose::new("holdfast-verify")?;
    compose.down(true)?;
    // With the features of the tests' build, so that nothing is built twice.
    let features = "holdfast/failpoints,e2e/page";
    output(workspace::cargo().args([
        "build",
        "--quiet",
        "--workspace",
        "--bins",
        "--features",
        features,
    ]))?;
    if arguments.build {
        say("building the images");
        let begun = Instant::now();
        compose.build()?;
        say(format!("images built in {} s", begun.elapsed().as_secs()));
    }
    Ok(compose)
}

/// Places one order of each ending, each way, through the front door.
pub(super) fn once(compose: &Compose) -> Result {
    let status = compose.traffic().arg("once").status().context("traffic")?;
    if status.success() {
        Ok(())
    } else {
        Err(error(format!("traffic once: {status}")))
    }
}

pub(super) fn begin_traffic(
    compose: &Compose,
    rate: &str,
    seconds: u64,
    journal: &std::path::Path,
) -> Result<Child> {
    let _ = fs::remove_file(journal);
    compose
        .traffic()
        .args(["run", "--no-watch", "--insist", "--rate", rate])
        .args(["--seconds", &seconds.to_string(), "--journal"])
        .arg(journal)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("traffic")
}

/// Waits until traffic has had each of its orders accepted and ended; returns its last lines.
pub(super) fn end_traffic(traffic: &mut Child) -> Result<String> {
    let status = process::wait_for("traffic", REST, || Ok(traffic.try_wait()?));
    if status.is_err() {
        traffic.kill()?;
    }
    let read = |pipe: Option<&mut dyn std::io::Read>| {
        let mut text = String::new();
        if let Some(pipe) = pipe {
            // An output that cannot be read is not shown.
            let _ = pipe.read_to_string(&mut text);
        }
        text
    };
    let told = read(
        traffic
            .stdout
            .as_mut()
            .map(|pipe| pipe as &mut dyn std::io::Read),
    );
    let status = status?;
    if status.success() {
        Ok(told.trim_end().to_owned())
    } else {
        let errors = read(
            traffic
                .stderr
                .as_mut()
                .map(|pipe| pipe as &mut dyn std::io::Read),
        );
        Err(error(format!("traffic: {status}\n{told}\n{errors}")))
    }
}

/// Returns the text between two others.
pub(super) fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}
