//! `cargo xtask verify compose`: up, used, down and up again, scaled.

use std::{
    fs,
    process::{Command, ExitCode},
    time::Duration,
};

use lexopt::Parser;

use super::trial::{REST, arguments, begin_traffic, end_traffic, fresh, once};
use crate::{
    Context, Result,
    compose::{Compose, docker, output},
    error, process,
    progress::{say, show},
    servers::{Install, find_or_install_browser},
    workspace,
};

/// The most that each of this project's images adds to its base, in bytes.
const IMAGE_BUDGET: u64 = 60 * 1024 * 1024;

/// The most memory that all containers use together at rest, in MiB.
const MEMORY_BUDGET: f64 = 1.2 * 1024.0;

/// The longest time from no containers to all healthy.
const UP_BUDGET: Duration = Duration::from_secs(60);

/// The base of this project's images.
const BASE: &str = "gcr.io/distroless/cc-debian13:nonroot";

/// Runs `verify compose`: up, orders through the front door, down and up again, scaled, and the budgets.
pub(in crate::commands) fn run(parser: Parser) -> Result<ExitCode> {
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
    looked_at(&compose)?;

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

/// Checks the front page in a browser, the traces and the dashboards.
fn looked_at(compose: &Compose) -> Result {
    let log = workspace::target().join("chromium-install.log");
    find_or_install_browser(Install::Allowed, &log)?;
    let url = compose.url();
    let tool = |name: &str, option: &str, value: &str| {
        output(Command::new(workspace::binary(name)).args([option, value]))
    };
    show(tool("jaeger-traces", "--front-door", &url)?);
    tool("page", "--url", &url)?;
    say("the front page passed its test in a browser");
    let prometheus = format!("{url}/prometheus");
    let mut last = None;
    // A rate needs two scrapes, and the rules that use it one more evaluation.
    process::wait_for("every dashboard", Duration::from_secs(120), || {
        last = Some(tool("dashboards", "--prometheus", &prometheus));
        Ok(matches!(last, Some(Ok(_))).then_some(()))
    })
    .or_else(|late| last.take().map_or(Err(late), |last| last.map(drop)))?;
    let told = tool("dashboards", "--prometheus", &prometheus)?;
    say(told.lines().last().unwrap_or_default());
    Ok(())
}

/// Returns the number of orders that alice has, by the API's first page.
fn orders(compose: &Compose, token: &str) -> Result<usize> {
    let page = output(Command::new("curl").args([
        "-fsS",
        "-H",
        &format!("Authorization: Bearer {token}"),
        &format!("{}/api/order/orders?limit=200", compose.url()),
    ]))?;
    Ok(page.matches("\"created_at\"").count())
}

/// Checks that at least two replicas of each service have handled messages.
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

/// Checks the size that each image adds to its base.
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
        "orchestrator",
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

/// Checks the memory that all containers use at rest.
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

/// Parses a size as `docker stats` writes it, such as `12.5MiB`, into MiB.
fn mebibytes(text: &str) -> Option<f64> {
    for (unit, factor) in [("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1.0 / 1024.0)] {
        if let Some(number) = text.strip_suffix(unit) {
            return Some(number.parse::<f64>().ok()? * factor);
        }
    }
    None
}
