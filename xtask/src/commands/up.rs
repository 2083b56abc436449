//! `cargo xtask up`: runs the whole system until Ctrl-C, or places one order of each ending.

use std::{
    process::{Command, ExitCode},
    time::Duration,
};

use lexopt::{Arg, Parser, ValueExt};

use super::{exit_code, install};
use crate::{
    Context, Result, error, process,
    progress::{say, show},
    settings::Reference,
    stack::{Options, Stack},
    wiring::{ROOM, SERVICES},
};

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut once, mut no_install, mut traffic, mut release) = (false, false, true, false);
    let (mut rate, mut way) = ("1".to_owned(), "both".to_owned());
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("once") => once = true,
            Arg::Long("no-install") => no_install = true,
            Arg::Long("no-traffic") => traffic = false,
            Arg::Long("release") => release = true,
            Arg::Long("rate") => rate = arguments.value()?.string()?,
            Arg::Long("coordination") => way = arguments.value()?.string()?,
            other => return Err(other.unexpected().into()),
        }
    }
    if !["choreography", "orchestration", "both"].contains(&way.as_str()) {
        return Err(error(
            "--coordination must be choreography, orchestration or both",
        ));
    }
    let (given, kept) = Reference::read()?.given(|variable| std::env::var(variable).ok());
    for setting in given.describe() {
        say(format!("passed on from your environment: {setting}"));
    }
    if !kept.is_empty() {
        let kept = kept.join(", ");
        say(format!("not passed on, as `up` sets it itself: {kept}"));
    }
    let mut stack = Stack::start(&Options {
        name: if once { "once" } else { "stack" },
        install: install(no_install),
        database_each: false,
        // The front page can crash a service at a line only if failpoints are compiled in.
        failpoints: true,
        release,
        room: !once,
        extra: vec![("DEMO_MODE".to_owned(), (!once).to_string())],
        given,
    })?;
    let code = if once {
        run_once(&mut stack, &way)
    } else {
        run_until_interrupted(&mut stack, traffic, &rate, &way)
    };
    say("stopping");
    stack.shut_down()?;
    say("stopped");
    code
}

/// Places one order of each ending, each way, and then compares the books.
fn run_once(stack: &mut Stack, way: &str) -> Result<ExitCode> {
    for mut tool in [
        {
            let mut traffic = stack.tool("traffic");
            traffic.args(["once", "--coordination", way]);
            traffic
        },
        stack.tool("reconcile"),
    ] {
        let status = attend(stack, &mut tool)?;
        if !status.success() {
            return Ok(exit_code(status));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_until_interrupted(
    stack: &mut Stack,
    traffic: bool,
    rate: &str,
    way: &str,
) -> Result<ExitCode> {
    let mut seed = stack.tool("traffic");
    if !attend(stack, seed.arg("seed"))?.success() {
        return Ok(ExitCode::FAILURE);
    }
    show_places(stack);
    if traffic {
        say(format!(
            "light traffic: {rate} orders per second, coordination: {way}, each order is shown when it is at rest (--no-traffic: none)"
        ));
        let mut tool = stack.tool("traffic");
        let status = attend(
            stack,
            tool.args(["run", "--rate", rate, "--coordination", way]),
        )?;
        // Ctrl-C is the usual end, and no failure.
        return Ok(if process::is_interrupted() {
            ExitCode::SUCCESS
        } else {
            exit_code(status)
        });
    }
    say("no traffic but yours; Ctrl-C ends it");
    while !process::is_interrupted() {
        stack.supervise()?;
        process::nap(Duration::from_millis(100));
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a tool, and supervises the stack meanwhile. Ends the tool when the user interrupts.
pub(super) fn attend(stack: &mut Stack, tool: &mut Command) -> Result<std::process::ExitStatus> {
    let mut child = tool
        .spawn()
        .context(format!("cannot run {}", tool.get_program().display()))?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if process::is_interrupted() {
            // The tool got the same Ctrl-C; give it a moment for its last lines.
            for _ in 0..50 {
                if let Some(status) = child.try_wait()? {
                    return Ok(status);
                }
                process::nap(Duration::from_millis(20));
            }
            child.kill()?;
            return Ok(child.wait()?);
        }
        if let Err(error) = stack.supervise() {
            child.kill()?;
            child.wait()?;
            return Err(error);
        }
        process::nap(Duration::from_millis(50));
    }
}

fn show_places(stack: &Stack) {
    show("");
    show(format!(
        "  {:<15} {}  (see it, break it, mend it)",
        "front page",
        stack.wiring.url(ROOM)
    ));
    for service in SERVICES {
        show(format!(
            "  {service:<15} {}/docs/",
            stack.wiring.url(service)
        ));
    }
    show(format!(
        "  {:<15} {}  (admin, development-admin)",
        "RabbitMQ",
        stack.rabbitmq_page()
    ));
    show(format!("  {:<15} {}", "mails", stack.mails().display()));
    show(format!(
        "  {:<15} {}",
        "logs",
        stack.claim.folder.join("logs").display()
    ));
    let order = stack.wiring.url("order");
    show(format!(
        "\nPlace an order of your own:\n\n  \
         TOKEN=$(cargo xtask token alice)\n  \
         curl -i {order}/orders -H \"Authorization: Bearer $TOKEN\" -H \"Idempotency-Key: $(date +%s%N)\" \\\n       \
         -H 'Content-Type: application/json' \\\n       \
         -d '{{\"lines\":[{{\"sku\":\"TEA-EARL-GREY\",\"quantity\":2}}],\"payment\":{{\"method\":\"wallet\"}}}}'\n"
    ));
}
