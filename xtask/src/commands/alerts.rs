//! `cargo xtask verify alerts`: provokes each alert of `deploy/prometheus/rules` on a running stack, and heals its
//! cause.

mod collector;
mod faults;

use std::time::{Duration, Instant};

use self::faults::{Fault, ROUNDS};
use super::verify::Trial;
use crate::{
    Context, Result, error, ports,
    process::{self, is_interrupted},
    progress::{say, show},
    servers::{Prometheus, find_or_install_prometheus},
    workspace,
};

/// The divisor of the rules' waits and ranges. Their thresholds stay as they are.
const HASTE: u32 = 6;
/// The longest time for an alert to fire, and to clear.
const PATIENCE: Duration = Duration::from_secs(240);

/// Returns the settings of this fault's services: demo mode, few and early sweeps, and the address of a collector of
/// traces that starts later.
pub(super) fn settings() -> Result<Vec<(String, String)>> {
    let collector = format!("http://127.0.0.1:{}", ports::free()?);
    Ok([
        ("DEMO_MODE", "true".to_owned()),
        ("SWEEP_AFTER_MS", "10000".to_owned()),
        ("SWEEPS", "2".to_owned()),
        // A saga resends for a quarter of an hour before it waits for an operator; with this pace, for two minutes.
        ("SAGA_PACE", "12".to_owned()),
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        (collector::ADDRESS, collector),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec())
}

/// Provokes and heals all faults in turn, under traffic.
pub(super) fn run(trial: &mut Trial) -> Result {
    every_alert_is_here()?;
    let claim = &trial.stack.claim;
    let logs = claim.folder.join("logs");
    let program = find_or_install_prometheus(trial.install, &logs.join("install.log"))?;
    let jobs: Vec<(String, u16)> = trial
        .stack
        .wiring
        .ports
        .iter()
        .map(|(service, port)| ((*service).to_owned(), *port))
        .collect();
    let folder = claim.data.join("prometheus");
    let broker = trial.stack.rabbitmq_metrics();
    let stack = &claim.folder;
    let prometheus = Prometheus::start(program, &folder, &logs, stack, &jobs, broker, HASTE)?;
    say(format!(
        "Prometheus reads the stack: http://127.0.0.1:{}/prometheus/; waits and ranges of the rules are divided by {HASTE}",
        prometheus.port
    ));

    let mut rows = Vec::new();
    for round in ROUNDS {
        rows.extend(provoke(trial, &prometheus, round)?);
    }
    let quiet = process::wait_for("quiet", PATIENCE, || {
        trial.stack.supervise()?;
        Ok((!prometheus.has("ALERTS{alertstate=\"firing\"}")?).then_some(()))
    });
    quiet.map_err(|e| error(format!("an alert fires that no fault provoked: {e}")))?;
    every_expression_has_series(&prometheus)?;

    show(format!(
        "\n  {:<22} {:<45} {:>11} {:>13}",
        "alert", "provoked by", "fired after", "cleared after"
    ));
    for row in &rows {
        show(row);
    }
    show("");
    trial
        .notes
        .push(format!("{} alerts fired and cleared", rows.len()));
    Ok(())
}

/// Provokes all faults of a round, waits until each alert fires, heals them, and waits until each alert has cleared.
/// Returns a row for each alert.
fn provoke(trial: &mut Trial, prometheus: &Prometheus, round: &[Fault]) -> Result<Vec<String>> {
    let mut expected = Vec::new();
    for fault in round {
        say(fault.what);
        (fault.provoke)(trial)?;
        let broken = Instant::now();
        for (name, labels) in fault.alerts {
            expected.push((*name, *labels, fault.what, broken));
        }
    }
    let fired = times(trial, prometheus, &expected, true)?;
    let mut healed = Vec::new();
    for fault in round {
        (fault.heal)(trial)?;
        say(format!("healed: {}", fault.what));
        for (name, labels) in fault.alerts {
            healed.push((*name, *labels, fault.what, Instant::now()));
        }
    }
    let cleared = times(trial, prometheus, &healed, false)?;
    let rows = expected.iter().zip(fired).zip(cleared);
    Ok(rows
        .map(|(((name, _, what, _), fired), cleared)| {
            format!("  {name:<22} {what:<45} {fired:>9.0} s {cleared:>11.0} s")
        })
        .collect())
}

/// Returns the time that each alert took to fire, or to clear, in seconds.
fn times(
    trial: &mut Trial,
    prometheus: &Prometheus,
    expected: &[(&str, &str, &str, Instant)],
    firing: bool,
) -> Result<Vec<f64>> {
    let word = if firing { "fires" } else { "has cleared" };
    let mut times = vec![None; expected.len()];
    let begun = Instant::now();
    while times.iter().any(Option::is_none) {
        if is_interrupted() {
            return Err(error("interrupted"));
        }
        for ((name, labels, _, since), time) in expected.iter().zip(&mut times) {
            let alert = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\",{labels}}}");
            if time.is_none() && prometheus.has(&alert)? == firing {
                let took = since.elapsed().as_secs_f64();
                say(format!("{name} {word} after {took:.0} s"));
                *time = Some(took);
            }
        }
        if begun.elapsed() > PATIENCE {
            let late: Vec<&str> = expected
                .iter()
                .zip(&times)
                .filter(|(_, time)| time.is_none())
                .map(|((name, ..), _)| *name)
                .collect();
            return Err(error(format!(
                "not within {} s {word}: {}",
                PATIENCE.as_secs(),
                late.join(", ")
            )));
        }
        trial.wait(Duration::from_millis(300))?;
    }
    Ok(times.into_iter().flatten().collect())
}

/// Fails if the rules have an alert that no fault provokes: it would never be tried.
fn every_alert_is_here() -> Result {
    let path = workspace::root().join("deploy/prometheus/rules/alerts.yml");
    let rules = std::fs::read_to_string(&path).context(path.display())?;
    let provoked: Vec<&str> = ROUNDS
        .iter()
        .flat_map(|round| round.iter())
        .flat_map(|fault| fault.alerts)
        .map(|(name, _)| *name)
        .collect();
    for line in rules.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ")
            && !provoked.contains(&name)
        {
            return Err(error(format!(
                "no fault of `verify alerts` provokes {name}"
            )));
        }
    }
    Ok(())
}

/// Checks that every expression of a panel or a rule has series, after each fault has occurred once.
fn every_expression_has_series(prometheus: &Prometheus) -> Result {
    let status = workspace::cargo()
        .args(["run", "--quiet", "-p", "e2e", "--bin", "dashboards"])
        .env(
            "PROMETHEUS_URL",
            format!("http://127.0.0.1:{}/prometheus", prometheus.port),
        )
        .status()
        .context("cargo run -p e2e --bin dashboards")?;
    if status.success() {
        Ok(())
    } else {
        Err(error(
            "an expression of a dashboard or of a rule has no series",
        ))
    }
}
