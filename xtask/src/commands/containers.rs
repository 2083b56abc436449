//! `cargo xtask verify compose` and `verify containers`: the drills on `docker-compose.yml`.

use std::{
    fs,
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use lexopt::{Arg, Parser, ValueExt};

use crate::{
    Context, Result,
    compose::{Compose, Container, docker, output},
    error, process,
    progress::{say, show},
    workspace,
};

/// How long everything may take to come to rest after a fault is mended.
const REST: Duration = Duration::from_secs(180);

/// The most that an image of ours adds to its base, in bytes.
const IMAGE_BUDGET: u64 = 60 * 1024 * 1024;

/// The most memory that all containers use together at rest, in MiB.
const MEMORY_BUDGET: f64 = 1.2 * 1024.0;

/// The longest from no containers to all healthy.
const UP_BUDGET: Duration = Duration::from_secs(60);

/// The base that our images stand on.
const BASE: &str = "gcr.io/distroless/cc-debian13:nonroot";

struct Arguments {
    rate: String,
    only: Vec<String>,
    build: bool,
}

fn arguments(mut parser: Parser) -> Result<Arguments> {
    let mut arguments = Arguments {
        rate: "5".to_owned(),
        only: Vec::new(),
        build: true,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("rate") => arguments.rate = parser.value()?.string()?,
            Arg::Long("no-build") => arguments.build = false,
            Arg::Value(name) => arguments.only.push(name.string()?),
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(arguments)
}

/// A stack of its own: nothing of an earlier drill is left in it.
fn fresh(arguments: &Arguments) -> Result<Compose> {
    let compose = Compose::new("holdfast-verify")?;
    compose.down(true)?;
    output(workspace::cargo().args(["build", "--quiet", "-p", "load-tests", "--bins"]))?;
    if arguments.build {
        say("building the images");
        let begun = Instant::now();
        compose.build()?;
        say(format!("images built in {} s", begun.elapsed().as_secs()));
    }
    Ok(compose)
}

/// `verify compose`: up, orders through the front door, down and up again, scaled, and the budgets.
pub(super) fn compose(parser: Parser) -> Result<ExitCode> {
    let compose = fresh(&arguments(parser)?)?;
    let took = compose.up(&[])?;
    say(format!(
        "all containers healthy after {:.1} s",
        took.as_secs_f64()
    ));
    if took > UP_BUDGET {
        return Err(error(format!("that is more than {UP_BUDGET:?}")));
    }

    once(&compose)?;
    show(compose.reconcile(REST, None)?);
    let token = compose.run(&["run", "--rm", "-T", "token", "alice"])?;
    if token.split('.').count() != 3 {
        return Err(error(format!("no token: {token}")));
    }
    say("`docker compose run --rm token alice` prints a token");
    sizes()?;
    memory(&compose)?;

    say("down and up: the data stay");
    let before = orders(&compose, &token)?;
    compose.down(false)?;
    let took = compose.up(&[])?;
    let after = orders(&compose, &token)?;
    if before != after || before == 0 {
        return Err(error(format!("alice had {before} orders, and has {after}")));
    }
    say(format!(
        "alice's {after} orders are there; healthy after {:.1} s",
        took.as_secs_f64()
    ));

    say("three of order, payment and inventory each: shared work, effects once");
    compose.up(&[
        "--scale",
        "order=3",
        "--scale",
        "payment=3",
        "--scale",
        "inventory=3",
    ])?;
    let journal = workspace::target().join("verify-compose.journal");
    let mut traffic = begin_traffic(&compose, "20", 10, &journal)?;
    let told = end_traffic(&mut traffic)?;
    show(told);
    let accepted = fs::read_to_string(&journal).context(journal.display())?;
    show(compose.reconcile(REST, Some(&accepted))?);
    shared_work(&compose)?;

    say("down -v and up: a fresh start");
    compose.down(true)?;
    compose.up(&[])?;
    let left = orders(&compose, &token)?;
    if left != 0 {
        return Err(error(format!("alice has {left} orders from before")));
    }
    once(&compose)?;
    show(compose.reconcile(REST, None)?);
    say("compose: all of it holds");
    Ok(ExitCode::SUCCESS)
}

/// One order of each ending, through the front door.
fn once(compose: &Compose) -> Result {
    let status = compose.traffic().arg("once").status().context("traffic")?;
    if status.success() {
        Ok(())
    } else {
        Err(error(format!("traffic once: {status}")))
    }
}

/// How many orders alice has, by the API's first page.
fn orders(compose: &Compose, token: &str) -> Result<usize> {
    let page = output(Command::new("curl").args([
        "-fsS",
        "-H",
        &format!("Authorization: Bearer {token}"),
        &format!("{}/api/order/orders?limit=200", compose.url()),
    ]))?;
    Ok(page.matches("\"created_at\"").count())
}

/// Whether the replicas shared the messages: each counts those that it handled.
fn shared_work(compose: &Compose) -> Result {
    for service in ["order", "payment", "inventory"] {
        let mut counts = Vec::new();
        for replica in compose.containers()? {
            if replica.service == service {
                let metrics = docker(&["exec", &replica.id, "healthcheck", "--path", "/metrics"])?;
                let handled: f64 = metrics
                    .lines()
                    .filter(|line| line.starts_with("messages_total{"))
                    .filter(|line| line.contains("outcome=\"handled\""))
                    .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                    .sum();
                counts.push(handled);
            }
        }
        say(format!("messages handled by each {service}: {counts:?}"));
        if counts.len() != 3 || counts.iter().filter(|count| **count > 0.0).count() < 2 {
            return Err(error(format!("the work of {service} was not shared")));
        }
    }
    Ok(())
}

/// What each image of ours adds to its base.
fn sizes() -> Result {
    let size = |image: &str| -> Result<u64> {
        docker(&["image", "inspect", "--format", "{{.Size}}", image])?
            .parse()
            .context(image)
    };
    let base = size(BASE)?;
    show("\n  image                     above its base");
    for image in [
        "order",
        "payment",
        "inventory",
        "notification",
        "card-processor",
        "control-room",
        "tools",
    ] {
        let image = format!("holdfast/{image}");
        let above = size(&image)?.saturating_sub(base);
        #[expect(clippy::cast_precision_loss, reason = "for a person to read")]
        let mib = above as f64 / 1024.0 / 1024.0;
        show(format!("  {image:<26} {mib:>6.1} MiB"));
        if above > IMAGE_BUDGET {
            return Err(error(format!("{image} is {mib:.1} MiB above its base")));
        }
    }
    show("");
    Ok(())
}

/// What each container uses at rest.
fn memory(compose: &Compose) -> Result {
    let containers = compose.containers()?;
    let mut arguments = vec![
        "stats",
        "--no-stream",
        "--format",
        "{{.Name}}\t{{.MemUsage}}",
    ];
    arguments.extend(containers.iter().map(|container| container.id.as_str()));
    let stats = docker(&arguments)?;
    let mut sum = 0.0;
    show("  container                 memory at rest / limit");
    for line in stats.lines() {
        let (name, usage) = line.split_once('\t').unwrap_or((line, ""));
        sum += mebibytes(usage.split(" / ").next().unwrap_or(""))
            .ok_or_else(|| error(format!("docker stats says {usage:?}")))?;
        show(format!("  {name:<34} {usage}"));
    }
    show(format!("  in all {sum:.0} MiB\n"));
    if sum > MEMORY_BUDGET {
        return Err(error(format!("more than {MEMORY_BUDGET:.0} MiB")));
    }
    Ok(())
}

/// `12.5MiB`, as `docker stats` writes it.
fn mebibytes(text: &str) -> Option<f64> {
    for (unit, factor) in [("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1.0 / 1024.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}

/// What is done to a container.
#[derive(Clone, Copy)]
struct Fault {
    name: &'static str,
    /// How long the traffic goes on, in seconds.
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

/// The process is killed, not the container stopped: Docker's restart policy is part of what is tried.
fn kill(container: &Container) -> Result {
    let pid = docker(&["inspect", "--format", "{{.State.Pid}}", &container.id])?;
    output(Command::new("kill").args(["-9", &pid])).map(drop)
}

/// `verify containers`: each fault on each container, under traffic, and the books after each.
pub(super) fn containers(parser: Parser) -> Result<ExitCode> {
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
        for fault in FAULTS {
            say(format!("{}: {}", container.service, fault.name));
            let row = match cell(&compose, container, fault, &arguments.rate) {
                Ok(row) => row,
                Err(error) if process::is_interrupted() => return Err(error),
                Err(error) => {
                    failed = true;
                    say(&error);
                    // What is wrong now must not be held against the next one.
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
    // At work when it is hit.
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

fn begin_traffic(
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

/// Waits until it got every order in; answers its last words.
fn end_traffic(traffic: &mut Child) -> Result<String> {
    let status = process::wait_for("traffic", REST, || Ok(traffic.try_wait()?));
    if status.is_err() {
        traffic.kill()?;
    }
    let read = |pipe: Option<&mut dyn std::io::Read>| {
        let mut text = String::new();
        if let Some(pipe) = pipe {
            // What cannot be read is not shown.
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

/// What stands between two texts.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}
