//! `cargo xtask verify`: minutes-long faults. Each has a stack of its own, traffic, and `reconcile` at the end.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use lexopt::{Arg, Parser, ValueExt};

use super::{alerts, consumers, containers, install, page, strangers};
use crate::{
    Context, Result, error,
    process::{self, Process, Recipe},
    progress::{say, show},
    servers::Install,
    settings::Given,
    stack::{Options, Stack},
    wiring::SERVICES,
    workspace,
};

/// The longest time for everything to come to rest after the last fault is mended.
const REST: Duration = Duration::from_secs(300);

/// A fault, and the stack that it needs.
struct Fault {
    name: &'static str,
    what: &'static str,
    /// True for a PostgreSQL of its own for each service.
    database_each: bool,
    chaos: Option<&'static str>,
    run: fn(&mut Trial) -> Result,
}

const FAULTS: [Fault; 9] = [
    Fault {
        name: "kills",
        what: "kill -9 of each process in turn, servers included; each is started again after 2 s",
        database_each: false,
        chaos: None,
        run: kills,
    },
    Fault {
        name: "broker",
        what: "RabbitMQ is stopped for 5 minutes",
        database_each: false,
        chaos: None,
        run: |trial| trial.outage("rabbitmq", 5.0),
    },
    Fault {
        name: "databases",
        what: "each service's PostgreSQL in turn is stopped for 3 minutes",
        database_each: true,
        chaos: None,
        run: databases,
    },
    Fault {
        name: "mail",
        what: "the mail server is stopped for 3 minutes",
        database_each: false,
        chaos: None,
        run: |trial| trial.outage("smtp-sink", 3.0),
    },
    Fault {
        name: "card",
        what: "the card processor is stopped for 3 minutes",
        database_each: false,
        chaos: None,
        run: |trial| trial.outage("card-processor", 3.0),
    },
    Fault {
        name: "duplicates",
        what: "for 2 minutes every message is handled twice, each copy up to 2 s late, in any order",
        database_each: false,
        chaos: Some("2000"),
        run: |trial| trial.wait(trial.minutes(2.0)),
    },
    Fault {
        name: "replicas",
        what: "two of each service, orders both ways; one of each pair is killed with -9 every 5 s, for 2 minutes",
        database_each: false,
        chaos: None,
        run: replicas,
    },
    Fault {
        name: "alerts",
        what: "each alert is provoked and healed, under a private Prometheus with the rules of deploy/prometheus",
        database_each: false,
        chaos: None,
        run: alerts::run,
    },
    Fault {
        name: "model",
        what: "the protocol's model, searched deeper than the tests do",
        database_each: false,
        chaos: None,
        run: |_| Ok(()),
    },
];

/// The choices of the command line.
pub(super) struct Plan {
    minutes: Option<f64>,
    rate: String,
}

/// A stack under traffic, on which a fault is tried.
pub(super) struct Trial<'a> {
    pub(super) stack: Stack,
    plan: &'a Plan,
    /// The faults and their durations, for a person to read.
    pub(super) notes: Vec<String>,
    pub(super) install: Install,
}

pub(super) fn run(mut arguments: Parser) -> Result<ExitCode> {
    let mut plan = Plan {
        minutes: None,
        rate: "3".to_owned(),
    };
    let (mut named, mut no_install) = (Vec::new(), false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Arg::Long("minutes") => {
                let minutes: f64 = arguments.value()?.parse()?;
                if !(minutes > 0.0 && minutes <= 600.0) {
                    return Err(error("--minutes must be more than 0, and at most 600"));
                }
                plan.minutes = Some(minutes);
            }
            Arg::Long("rate") => plan.rate = arguments.value()?.string()?,
            Arg::Long("no-install") => no_install = true,
            Arg::Value(name) => {
                let name = name.string()?;
                if let Some(command) = elsewhere(&name).filter(|_| named.is_empty()) {
                    return command(arguments);
                }
                named.push(name);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    if named == ["list"] {
        for fault in &FAULTS {
            show(format!("  {:<12} {}", fault.name, fault.what));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(unknown) = named
        .iter()
        .find(|name| FAULTS.iter().all(|fault| fault.name != name.as_str()))
    {
        return Err(error(format!(
            "there is no fault {unknown:?}: `cargo xtask verify list`"
        )));
    }
    let wanted = FAULTS
        .iter()
        .filter(|fault| named.is_empty() || named.iter().any(|name| name == fault.name));

    let mut rows = Vec::new();
    for fault in wanted {
        rows.push(row(fault, &plan, no_install)?);
    }
    show("");
    for (_, row) in &rows {
        show(row);
    }
    Ok(if rows.iter().all(|(passed, _)| *passed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// A command with arguments of its own.
type Command = fn(Parser) -> Result<ExitCode>;

/// Returns the command of a name that is not one of [`FAULTS`].
fn elsewhere(name: &str) -> Option<Command> {
    let command: Command = match name {
        "compose" => containers::compose::run,
        "containers" => containers::run,
        "compose-replicas" => containers::replicas::run,
        "consumers" => consumers::run,
        "page" => page::run,
        "openapi" => strangers::documents,
        "clients" => strangers::clients,
        "schemathesis" => strangers::schemathesis,
        _ => return None,
    };
    Some(command)
}

/// Tries one fault. Returns true if all went well, and the result as a row. Fails only when it is interrupted.
fn row(fault: &Fault, plan: &Plan, no_install: bool) -> Result<(bool, String)> {
    say(format!("fault {}: {}", fault.name, fault.what));
    let begun = Instant::now();
    let outcome = if fault.name == "model" {
        model()
    } else {
        on_stack(fault, plan, no_install)
    };
    if process::is_interrupted() {
        return Err(error("interrupted"));
    }
    let end = match &outcome {
        Ok(end) => end.clone(),
        Err(error) => {
            say(format!("fault {}: {error}", fault.name));
            "FAILED".to_owned()
        }
    };
    let took = begun.elapsed().as_secs();
    Ok((
        outcome.is_ok(),
        format!("  {:<12} {took:>5} s  {end}", fault.name),
    ))
}

/// Starts a stack, causes a fault on it under traffic, and compares the books. Returns the result in words.
fn on_stack(fault: &Fault, plan: &Plan, no_install: bool) -> Result<String> {
    let mut extra: Vec<(String, String)> = fault
        .chaos
        .map(|delay| ("CONSUMER_CHAOS".to_owned(), delay.to_owned()))
        .into_iter()
        .collect();
    let is_about_alerts = fault.name == "alerts";
    if is_about_alerts {
        extra.extend(alerts::settings()?);
    }
    let mut trial = Trial {
        stack: Stack::start(&Options {
            name: "verify",
            install: install(no_install),
            database_each: fault.database_each,
            failpoints: fault.chaos.is_some(),
            release: false,
            room: is_about_alerts,
            given: Given::default(),
            extra,
        })?,
        plan,
        notes: Vec::new(),
        install: install(no_install),
    };
    let verdict = trial.under_traffic(fault);
    trial.stack.shut_down()?;
    verdict
}

impl Trial<'_> {
    fn under_traffic(&mut self, fault: &Fault) -> Result<String> {
        let seeded = self.stack.tool("traffic").arg("seed").status()?;
        if !seeded.success() {
            return Err(error("cannot seed"));
        }
        let folder = self.stack.claim.folder.clone();
        let journal = folder.join("journal");
        let mut traffic = self.traffic(&journal)?;
        self.wait(Duration::from_secs(5))?;
        (fault.run)(self)?;
        // Some orders that come after the fault.
        self.wait(Duration::from_secs(5))?;

        // SIGINT ends it once each order that it has begun is accepted.
        traffic.signal(libc::SIGINT);
        let log = folder.join("logs/traffic.log");
        let status = process::wait_for("traffic", REST, || {
            self.stack.supervise()?;
            traffic.ended()
        })?;
        let told = process::tail(&log, 3);
        if !status.success() {
            return Err(error(format!("traffic: {status}\n{told}")));
        }
        say("traffic has ended; reconciling");
        show(told);
        let mut reconcile = self.stack.tool("reconcile");
        reconcile
            .args(["--within", &REST.as_secs().to_string()])
            .arg("--journal")
            .arg(&journal);
        // For `alerts` sagas have short deadlines, and give up a payment that waits for the card processor.
        if fault.name != "alerts" {
            reconcile.arg("--none-by-deadline");
        }
        let output = reconcile.output().context("reconcile")?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        show(report.trim_end());
        let died = self.stack.died();
        if !output.status.success() {
            return Err(error("the books do not agree"));
        }
        if !died.is_empty() {
            return Err(error(format!("died by themselves: {}", died.join(", "))));
        }
        let orders = std::fs::read_to_string(&journal)
            .context(journal.display())?
            .lines()
            .count();
        Ok(format!(
            "{orders} orders, reconcile clean; {}",
            self.notes.join(", ")
        ))
    }

    /// Starts traffic at a rate, until a signal. The ids of accepted orders are written to the journal.
    fn traffic(&self, journal: &Path) -> Result<Process> {
        let folder = self.stack.claim.folder.clone();
        let journal = journal.display().to_string();
        let arguments = [
            "run",
            "--rate",
            &self.plan.rate,
            "--no-watch",
            "--insist",
            "--journal",
            &journal,
        ];
        Recipe {
            name: "traffic".to_owned(),
            program: workspace::binary("traffic"),
            arguments: arguments.map(str::to_owned).to_vec(),
            environment: self.stack.tools_environment(),
            folder: folder.clone(),
            user: None,
            log: folder.join("logs/traffic.log"),
            stack: folder,
            stop: libc::SIGINT,
        }
        .start()
    }

    fn minutes(&self, usual: f64) -> Duration {
        Duration::from_secs_f64(self.plan.minutes.unwrap_or(usual) * 60.0)
    }

    /// Waits, and supervises the stack meanwhile: a process that dies is started again, and fails the trial.
    pub(super) fn wait(&mut self, time: Duration) -> Result {
        let begun = Instant::now();
        while begun.elapsed() < time {
            if process::is_interrupted() {
                return Err(error("interrupted"));
            }
            self.stack.supervise()?;
            process::nap(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Stops a server or service for a while, and waits until all are ready again.
    fn outage(&mut self, name: &str, minutes: f64) -> Result {
        let away = self.minutes(minutes);
        say(format!("{name} stops, for {} s", away.as_secs()));
        self.stack.stop(name)?;
        self.wait(away)?;
        self.stack.revive(name)?;
        say(format!("{name} starts again"));
        let back = Instant::now();
        self.all_ready()?;
        self.notes.push(format!(
            "{name} stopped for {} s, all ready {:.0} s after its start",
            away.as_secs(),
            back.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    pub(super) fn all_ready(&mut self) -> Result {
        for service in SERVICES {
            self.stack.wait_ready(service, Duration::from_secs(120))?;
        }
        Ok(())
    }
}

fn kills(trial: &mut Trial) -> Result {
    let names = trial.stack.names();
    for name in &names {
        say(format!("kill -9 of {name}"));
        trial.stack.kill(name)?;
        trial.wait(Duration::from_secs(2))?;
        trial.stack.revive(name)?;
        trial.all_ready()?;
        // Traffic reaches the whole system, so that the next process is hit at work.
        trial.wait(Duration::from_secs(8))?;
    }
    trial.notes.push(format!("killed {}", names.join(", ")));
    Ok(())
}

fn replicas(trial: &mut Trial) -> Result {
    let seconds = trial.stack.replicate()?;
    let begun = Instant::now();
    let (mut rounds, mut kills) = (0, 0);
    while begun.elapsed() < trial.minutes(2.0) {
        // The first of each pair, then the second, and so on.
        let victims: Vec<String> = seconds
            .iter()
            .map(|second| match rounds % 2 {
                0 => second.trim_end_matches("-2").to_owned(),
                _ => second.clone(),
            })
            .collect();
        for victim in &victims {
            trial.stack.kill(victim)?;
        }
        trial.wait(Duration::from_secs(1))?;
        for victim in &victims {
            trial.stack.revive(victim)?;
        }
        (rounds, kills) = (rounds + 1, kills + victims.len());
        trial.wait(Duration::from_secs(4))?;
    }
    trial.all_ready()?;
    trial
        .notes
        .push(format!("{kills} kills in {rounds} rounds"));
    Ok(())
}

fn databases(trial: &mut Trial) -> Result {
    for name in trial.stack.database_servers() {
        trial.outage(&name, 3.0)?;
    }
    Ok(())
}

/// Runs the model's deep search, which the tests leave out.
fn model() -> Result<String> {
    let status = workspace::cargo()
        .args(["test", "-p", "model", "--test", "it", "--", "--nocapture"])
        .env("HOLDFAST_MODEL", "deep")
        .status()
        .context("cargo test")?;
    if status.success() {
        Ok("no path breaks an invariant".to_owned())
    } else {
        Err(error(format!("the model: {status}")))
    }
}
