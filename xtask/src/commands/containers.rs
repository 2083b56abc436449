//! `cargo xtask verify compose` and `verify containers`: faults on the containers of `docker-compose.yml`.

pub(super) mod compose;
pub(super) mod replicas;
mod trial;

use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use lexopt::Parser;

use self::trial::{REST, arguments, begin_traffic, between, end_traffic, fresh, once};
use crate::{
    Context, Result,
    compose::{Compose, Container, docker, output},
    process,
    progress::{say, show},
    workspace,
};

/// A fault of a container.
#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    /// The duration of the traffic, in seconds.
    traffic: u64,
    apply: fn(&Container) -> Result,
}

const FAULTS: [Fault; 4] = [
    Fault {
        name: "kill -9",
        traffic: 12,
        apply: kill,
    },
    Fault {
        name: "restart",
        traffic: 12,
        apply: |container| docker(&["restart", &container.id]).map(drop),
    },
    Fault {
        name: "stop, start",
        traffic: 15,
        apply: |container| {
            docker(&["stop", &container.id])?;
            process::nap(Duration::from_secs(3));
            docker(&["start", &container.id]).map(drop)
        },
    },
    Fault {
        name: "pause 20 s",
        traffic: 28,
        apply: |container| {
            docker(&["pause", &container.id])?;
            process::nap(Duration::from_secs(20));
            docker(&["unpause", &container.id]).map(drop)
        },
    },
];

/// Kills the container's process, instead of stopping the container: Docker's restart policy is tried with it.
fn kill(container: &Container) -> Result {
    let ask = |what: &str| docker(&["inspect", "--format", what, &container.id]);
    let started = ask("{{.State.StartedAt}}")?;
    let killed = Instant::now();
    output(Command::new("kill").args(["-9", &ask("{{.State.Pid}}")?]))?;
    // Until the restart, Docker reports the health of the time before.
    process::wait_for("its restart", REST, || {
        let again = ask("{{.State.StartedAt}}")? != started;
        Ok(again.then_some(()))
    })?;
    say(format!(
        "started again after {:.1} s",
        killed.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Runs `verify containers`: each fault on each container under traffic, and `reconcile` after each.
pub(super) fn run(parser: Parser) -> Result<ExitCode> {
    let arguments = arguments(parser)?;
    let compose = fresh(&arguments)?;
    let took = compose.up(&[])?;
    say(format!(
        "all containers healthy after {:.1} s",
        took.as_secs_f64()
    ));
    once(&compose)?;

    let mut rows = Vec::new();
    let mut failed = false;
    let wanted: Vec<Container> = compose
        .containers()?
        .into_iter()
        .filter(|one| one.service != "traffic")
        .filter(|one| arguments.only.is_empty() || arguments.only.contains(&one.service))
        .collect();
    for container in &wanted {
        let named = |fault: &Fault| {
            arguments
                .fault
                .as_deref()
                .is_none_or(|part| fault.name.contains(part))
        };
        for fault in FAULTS.into_iter().filter(named) {
            say(format!("{}: {}", container.service, fault.name));
            let row = match cell(&compose, container, fault, &arguments.rate) {
                Ok(row) => row,
                Err(error) if process::is_interrupted() => return Err(error),
                Err(error) => {
                    failed = true;
                    say(&error);
                    // This fault's damage must not count against the next one.
                    let _ = compose.wait_all_well(REST);
                    format!("FAILED: {}", error.0.lines().next().unwrap_or_default())
                }
            };
            rows.push(format!(
                "  {:<15} {:<12} {row}",
                container.service, fault.name
            ));
        }
    }
    show(format!(
        "\n  {:<15} {:<12} {:>6} {:>9} {:>9} {:>12} {:>12}  reconcile",
        "container", "fault", "orders", "503", "no answer", "all healthy", "all at rest"
    ));
    rows.iter().for_each(show);
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn cell(compose: &Compose, container: &Container, fault: Fault, rate: &str) -> Result<String> {
    let journal = workspace::target().join("verify-containers.journal");
    let mut traffic = begin_traffic(compose, rate, fault.traffic, &journal)?;
    // The stack is at work when it is hit.
    process::wait_for("the first orders", Duration::from_secs(30), || {
        let begun = fs::read_to_string(&journal).unwrap_or_default();
        Ok((begun.lines().count() >= 5).then_some(()))
    })?;
    (fault.apply)(container)?;
    let mended = Instant::now();
    compose.wait_all_well(REST)?;
    let healthy = mended.elapsed();
    let told = end_traffic(&mut traffic)?;
    let last = mended.elapsed();
    let accepted = fs::read_to_string(&journal).context(journal.display())?;
    let report = compose.reconcile(REST, Some(&accepted))?;
    let waited = between(&report, "after ", " s").unwrap_or("?");
    Ok(format!(
        "{:>6} {:>9} {:>9} {:>10.1} s {:>9} s  clean",
        accepted.lines().count(),
        between(&told, "; 503 ", " times").unwrap_or("?"),
        between(&told, "no answer ", " times").unwrap_or("?"),
        healthy.as_secs_f64(),
        format!("{:.0}+{waited}", last.as_secs_f64()),
    ))
}
