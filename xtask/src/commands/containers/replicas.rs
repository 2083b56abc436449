//! `cargo xtask verify compose-replicas`: two of each service with messages, one of each pair killed repeatedly.

use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use lexopt::Parser;

use super::trial::{REST, arguments, begin_traffic, end_traffic, fresh};
use crate::{
    Context, Result,
    compose::{docker, output},
    error, process,
    progress::{say, show},
    workspace,
};

/// The services that run twice and share their work.
const PAIRS: [&str; 5] = [
    "order",
    "payment",
    "inventory",
    "notification",
    "orchestrator",
];

/// The duration of the killing, and the time from one round to the next.
const DURATION: Duration = Duration::from_secs(120);
const PERIOD: Duration = Duration::from_secs(5);

/// Runs `verify compose-replicas`. Docker restarts the killed processes by `restart: unless-stopped`, with a delay that
/// grows for one that dies young.
pub(in crate::commands) fn run(parser: Parser) -> Result<ExitCode> {
    let arguments = arguments(parser)?;
    let compose = fresh(&arguments)?;
    let scale: Vec<String> = PAIRS.iter().map(|service| format!("{service}=2")).collect();
    let more: Vec<&str> = scale.iter().flat_map(|scale| ["--scale", scale]).collect();
    let took = compose.up(&more)?;
    say(format!(
        "all containers healthy after {:.1} s",
        took.as_secs_f64()
    ));
    show(docker(&[
        "exec",
        &compose
            .containers()?
            .into_iter()
            .find(|one| one.service == "rabbitmq")
            .ok_or_else(|| error("no broker"))?
            .id,
        "rabbitmqctl",
        "version",
    ])?);

    let journal = workspace::target().join("verify-compose-replicas.journal");
    let mut traffic = begin_traffic(&compose, &arguments.rate, DURATION.as_secs() + 10, &journal)?;
    let begun = Instant::now();
    let (mut round, mut kills) = (0, 0);
    while begun.elapsed() < DURATION {
        for service in PAIRS {
            let pair: Vec<_> = compose
                .containers()?
                .into_iter()
                .filter(|one| one.service == service)
                .collect();
            let victim = pair
                .get(round % 2)
                .ok_or_else(|| error(format!("there are no two of {service}")))?;
            let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &victim.id])?;
            // Zero: the container has not been restarted since the last kill.
            if pid != "0" {
                output(Command::new("kill").args(["-9", &pid]))?;
                kills += 1;
            }
        }
        round += 1;
        process::nap(PERIOD.saturating_sub(Duration::from_secs(1)));
    }
    say(format!("{kills} kills in {round} rounds"));
    compose.wait_all_well(REST)?;
    // The books are compared in any case, before traffic's result is judged.
    let told = end_traffic(&mut traffic);
    let accepted = fs::read_to_string(&journal).context(journal.display())?;
    show(compose.reconcile(REST, Some(&accepted))?);
    show(told?);
    say(format!(
        "{} orders were accepted, and all books agree",
        accepted.lines().count()
    ));
    Ok(ExitCode::SUCCESS)
}
