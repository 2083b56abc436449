//! `cargo xtask example NAME`: runs a pattern's example, with the servers that it needs.

use std::process::{Command, ExitCode};

use lexopt::{Arg, Parser, ValueExt};

use super::{exit_code, install};
use crate::{
    Context, Result, error, ports,
    process::Process,
    progress::say,
    servers::{Durability, Install, Postgres, RabbitMq, Redis, find_or_install},
    workspace::{self, Claim},
};

/// The servers that an example needs.
struct Needs {
    postgres: bool,
    rabbitmq: bool,
    redis: bool,
}

fn needs(example: &str) -> Needs {
    let messages = matches!(example, "messaging" | "parking_lot");
    Needs {
        postgres: messages || matches!(example, "outbox" | "inbox" | "leased_work" | "saga"),
        rabbitmq: messages,
        redis: example == "distributed_lock",
    }
}

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let (mut name, mut no_install) = (None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("no-install") => no_install = true,
            Arg::Value(value) if name.is_none() => name = Some(value.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    let name = name.ok_or_else(|| {
        error("name one of the examples in shared/holdfast/examples: `cargo xtask example outbox`")
    })?;
    let needs = needs(&name);
    let mut command = workspace::cargo();
    command.args(["run", "--quiet", "-p", "holdfast", "--example", &name]);
    if !(needs.postgres || needs.rabbitmq || needs.redis) {
        return Ok(exit_code(command.status().context("cargo run")?));
    }

    let claim = Claim::take("example")?;
    let running = start(&needs, &claim, install(no_install), &mut command)?;
    say("its servers are ready");
    let status = command.status().context("cargo run")?;
    for mut process in running.into_iter().rev() {
        process.kill()?;
    }
    claim.discard_data();
    Ok(exit_code(status))
}

/// Starts the servers that an example needs, waits for them, and sets the variables by which it finds them.
fn start(
    needs: &Needs,
    claim: &Claim,
    install: Install,
    example: &mut Command,
) -> Result<Vec<Process>> {
    let (data, logs) = (&claim.data, &claim.folder);
    let installed = find_or_install(install, &logs.join("install.log"))?;
    let mut running = Vec::new();
    if needs.postgres {
        let server = Postgres::create(
            &installed,
            "postgres",
            data,
            logs,
            &claim.folder,
            Durability::None,
        )?;
        let mut process = server.start()?;
        server.wait(&mut process)?;
        example.env("DATABASE_URL", format!("{}/postgres", server.superuser()));
        running.push(process);
    }
    if needs.rabbitmq {
        let ports = (ports::free()?, ports::free()?);
        let server = RabbitMq::create(&installed, data, logs, &claim.folder, ports)?;
        running.push(server.start_epmd()?);
        let mut process = server.start()?;
        server.wait(&mut process)?;
        let url = format!(
            "amqp://admin:development-admin@127.0.0.1:{}/holdfast",
            server.amqp
        );
        example.env("AMQP_URL", url);
        running.push(process);
    }
    if needs.redis {
        let server = Redis::create(&installed, data, logs, &claim.folder, Durability::None)?;
        let mut process = server.start()?;
        server.wait(&mut process)?;
        example.env("REDIS_URL", server.url("admin"));
        running.push(process);
    }
    Ok(running)
}
