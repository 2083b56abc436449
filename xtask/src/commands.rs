//! The commands of `cargo xtask`.

mod alerts;
mod bench;
mod compare;
mod consumers;
mod containers;
mod copy_out;
mod down;
mod example;
mod load;
mod mutants;
mod on_stack;
mod page;
mod prepare;
mod strangers;
mod test;
mod test_servers;
mod token;
mod up;
mod verify;

use std::process::ExitCode;

use lexopt::{Arg, Parser, ValueExt};

use crate::{Result, error, process, progress::show, servers::Install};

const HELP: &str = "\
cargo xtask COMMAND

  up                 start private servers and all services, with light traffic, until Ctrl-C
      --once         place one order of each ending, each way; wait for all; print the table; exit 0 or 1
      --no-install   say what is missing instead of installing it
      --no-traffic   place no orders
      --release      build optimised; the first build takes some minutes more
      --rate N       orders per second of the light traffic (default 1)
      --coordination WAY  choreography, orchestration or both (default): the way its orders are coordinated
  down               end what a killed `up`, `test` or `verify` left
  test [ARGUMENTS]   start the servers and run every test; ARGUMENTS go to `cargo test`
      --no-install   say what is missing instead of installing it
  token NAME         print a development token; --operator, --service, --hours N
  verify [FAULT…]    minutes-long faults, each on a stack of its own; `verify list` lists them
      --minutes N    the length of each outage, instead of the fault's own
      --rate N       orders per second during it (default 3)
  verify compose     `docker compose up` as its user has it: orders, page, traces, dashboards, down and up, scaled, sizes
  verify containers [SERVICE…]  every fault on every container (or these), under traffic; --fault NAME: only that fault
      --no-build     use the images that exist; --rate N: orders per second
  verify compose-replicas  as the fault `replicas`, on the containers, with their versions of the servers
  verify consumers   the events, read by the examples in Python and JavaScript (docs/events.md), whose packages it installs
  verify page        the front page in Chromium: orders, breaking and mending, keyboard, phone, dark
      --url URL      on a running stack; --screenshots DIR: with pictures
  verify openapi     docs/openapi under openapi-spec-validator and Redocly's recommended rules
  verify clients [SERVICE…]  a Python client generated from each document (or these), and used
  verify schemathesis [SERVICE…]  requests generated from each document (or these), every response checked against it
  load [PROFILE]     put load on an optimised stack of its own, and report: smoke (20 s), steady, step, spike or soak
      --url URL      on a running stack instead, through its front door
      --rate R, --coordination WAY, …  `load --help` lists them: docs/load-testing.md
  compare            the same orders each way, and the cost of each; on an optimised stack of its own
      --orders N, --rate R, --rounds N
  bench [FILTER]     the cost of the patterns and of their alternatives, in one table (docs/benchmarks.md)
      UPDATE_DOCS=1 in the environment renews that page, by a whole run on an idle machine
  sagas [ID]         list the sagas of the stack of `up`, or show one, by its id or its order's; --phase stuck,broken
      ID resume|skip|abandon NOTE    take an operator action on a stuck saga
  drill NAME         a failure on the stack of `up`, with a pattern and without it, reported as it happens, then reconcile:
                     breaker, bulkhead, retry-storm, lock-pause, lock-flush, degraded-prices, smtp-down, card-outage,
                     slow-bodies
      --minutes N    the length of the outage in card-outage (default 10)
      --release      build the drill optimised, for a stack of `up --release`
  example NAME       a pattern's example (shared/holdfast/examples), with the servers that it needs
  copy-out [PATTERN…]  each pattern (or these) copied into a crate of its own, built and tested there
      --to FOLDER    keep the crates, in FOLDER/PATTERN
      --name NAME    the crate's name, for one pattern (default copied-PATTERN)
  mutants [NAME…]    break each guarantee of a pattern (or of these; or the mutants whose title has NAME in it), and see its test
                     fail: one table; exit 1 if a mutant survives
      --generated    cargo-mutants changes each condition and result of the relay, the consumer, its batches, the inbox and the
                     saga's transition (or of the files whose names have NAME in them); exit 1 if a survivor is not explained
  prepare [--check]  renew (or check) the queries that are checked without a database, services/*/.sqlx
  help               this text
";

/// Runs the command that the arguments name.
pub fn run() -> Result<ExitCode> {
    let mut arguments = Parser::from_env();
    let command = match arguments.next()? {
        Some(Arg::Value(command)) => command.string()?,
        Some(Arg::Short('h') | Arg::Long("help")) | None => "help".to_owned(),
        Some(other) => return Err(other.unexpected().into()),
    };
    process::catch_signals()?;
    match command.as_str() {
        "up" => up::run(arguments),
        "down" => down::run(),
        "test" => test::run(arguments),
        "token" => token::run(arguments),
        "verify" => verify::run(arguments),
        "load" => load::run(arguments),
        "compare" => compare::run(arguments),
        "sagas" | "drill" => on_stack::run(&command, arguments),
        "bench" => bench::run(arguments),
        "example" => example::run(arguments),
        "copy-out" => copy_out::run(arguments),
        "mutants" => mutants::run(arguments),
        "prepare" => prepare::run(arguments),
        "help" => {
            show(HELP.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        other => Err(error(format!("there is no command {other:?}\n\n{HELP}"))),
    }
}

/// Returns the meaning of `--no-install`.
fn install(no_install: bool) -> Install {
    if no_install {
        Install::Refused
    } else {
        Install::Allowed
    }
}

/// Returns the exit code of a child, or failure if it has none.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}
