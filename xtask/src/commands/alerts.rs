//! `cargo xtask verify alerts`: each alert of `deploy/prometheus/rules` is provoked on a running stack, and healed.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::verify::Running;
use crate::{
    Context, Result, error, http, ports,
    process::{self, is_interrupted},
    progress::{say, show},
    servers::{Prometheus, find_or_install_prometheus},
    workspace,
};

/// By what waits and ranges of the rules are divided. Thresholds stay as they are.
const HASTE: u32 = 6;
/// How long an alert may take to fire, and to clear.
const PATIENCE: Duration = Duration::from_secs(240);
const COLLECTOR: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// What the services of this drill are told besides: they may be broken, orders are given up on soon, and there is a
/// collector of traces, later.
pub(super) fn settings() -> Result<Vec<(String, String)>> {
    let collector = format!("http://127.0.0.1:{}", ports::free()?);
    Ok([
        ("DEMO_MODE", "true".to_owned()),
        ("SWEEP_AFTER_MS", "10000".to_owned()),
        ("SWEEPS", "2".to_owned()),
        ("OTEL_TRACES_EXPORTER", "otlp".to_owned()),
        (COLLECTOR, collector),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec())
}

/// Something that is broken and healed, and the alerts that it must lead to.
struct Fault {
    what: &'static str,
    /// Names, each with the labels that tell this one from others of its name.
    alerts: &'static [(&'static str, &'static str)],
    provoke: fn(&mut Running) -> Result,
    heal: fn(&mut Running) -> Result,
}

/// What is broken at the same time.
const ROUNDS: [&[Fault]; 4] = [
    &[
        Fault {
            what: "the collector of traces is away",
            alerts: &[("TraceExportFailing", "service=\"order\"")],
            // It was never there.
            provoke: |_| Ok(()),
            heal: start_collector,
        },
        Fault {
            what: "the mail server is stopped",
            alerts: &[("MailsNotSent", "")],
            provoke: |drill| drill.stack.stop("smtp-sink"),
            heal: |drill| drill.stack.revive("smtp-sink"),
        },
        Fault {
            what: "the card processor is killed",
            alerts: &[
                ("ServiceDown", "job=\"card-processor\""),
                ("OrdersNotComingToRest", ""),
                ("OrdersStuck", ""),
            ],
            provoke: |drill| drill.stack.kill("card-processor"),
            heal: |drill| {
                drill.stack.revive("card-processor")?;
                drill.all_ready()
            },
        },
    ],
    &[
        Fault {
            what: "the card processor fails every request",
            alerts: &[("HighErrorRate", "service=\"card-processor\"")],
            provoke: |drill| knobs(drill, 0, 1.0),
            heal: |drill| knobs(drill, 0, 0.0),
        },
        Fault {
            what: "a message that is none, to inventory",
            alerts: &[("MessagesParked", "service=\"inventory\"")],
            provoke: |drill| {
                let path = "/demo/queues/inventory.choreography/poison";
                ask(drill, "inventory", "POST", path, "").map(drop)
            },
            heal: drop_parked,
        },
        Fault {
            what: "the queue of mails is paused",
            alerts: &[
                ("ConsumerPaused", "queue=\"notification.choreography\""),
                (
                    "QueueWithoutConsumer",
                    "queue=\"notification.choreography\"",
                ),
            ],
            provoke: |drill| switch(drill, "pause"),
            heal: |drill| switch(drill, "resume"),
        },
        Fault {
            what: "a message in the outbox that no queue takes",
            alerts: &[("OutboxQuarantined", "service=\"inventory\"")],
            provoke: |drill| {
                drill.stack.execute(
                    "inventory",
                    "insert into outbox (message_id, exchange, routing_key, headers, payload)
                     values (gen_random_uuid(), 'retry', 'nowhere', '{}', '')",
                )
            },
            heal: |drill| {
                let delete = "delete from outbox where routing_key = 'nowhere'";
                drill.stack.execute("inventory", delete)
            },
        },
    ],
    &[Fault {
        what: "the card processor takes 6 s",
        alerts: &[("CardCallsSlow", "")],
        provoke: |drill| knobs(drill, 6000, 0.0),
        heal: |drill| knobs(drill, 0, 0.0),
    }],
    &[Fault {
        what: "the broker is stopped",
        alerts: &[
            ("BrokerLinkDown", "service=\"order\""),
            ("OutboxNotDraining", "service=\"order\""),
            ("ServiceDown", "job=\"rabbitmq\""),
        ],
        provoke: |drill| drill.stack.stop("rabbitmq"),
        heal: |drill| {
            drill.stack.revive("rabbitmq")?;
            drill.all_ready()
        },
    }],
];

/// Under traffic: provokes and heals everything in turn.
pub(super) fn run(drill: &mut Running) -> Result {
    every_alert_is_here()?;
    let claim = &drill.stack.claim;
    let logs = claim.folder.join("logs");
    let program = find_or_install_prometheus(drill.install, &logs.join("install.log"))?;
    let jobs: Vec<(String, u16)> = drill
        .stack
        .wiring
        .ports
        .iter()
        .map(|(service, port)| ((*service).to_owned(), *port))
        .collect();
    let folder = claim.data.join("prometheus");
    let broker = drill.stack.rabbitmq_metrics();
    let stack = &claim.folder;
    let prometheus = Prometheus::start(program, &folder, &logs, stack, &jobs, broker, HASTE)?;
    say(format!(
        "Prometheus reads the stack: http://127.0.0.1:{}/prometheus/; waits and ranges of the rules are divided by {HASTE}",
        prometheus.port
    ));

    let mut rows = Vec::new();
    for round in ROUNDS {
        rows.extend(provoke(drill, &prometheus, round)?);
    }
    let quiet = process::wait_for("quiet", PATIENCE, || {
        drill.stack.supervise()?;
        Ok((!prometheus.has("ALERTS{alertstate=\"firing\"}")?).then_some(()))
    });
    quiet.map_err(|e| error(format!("an alert that nobody provoked: {e}")))?;
    every_expression_has_series(&prometheus)?;

    show(format!(
        "\n  {:<22} {:<45} {:>11} {:>13}",
        "alert", "provoked by", "fired after", "cleared after"
    ));
    for row in &rows {
        show(row);
    }
    show("");
    drill
        .notes
        .push(format!("{} alerts fired and cleared", rows.len()));
    Ok(())
}

/// Breaks all of it, waits until each alert fires, heals, waits until each has cleared; answers a row for each.
fn provoke(drill: &mut Running, prometheus: &Prometheus, round: &[Fault]) -> Result<Vec<String>> {
    let mut expected = Vec::new();
    for fault in round {
        say(fault.what);
        (fault.provoke)(drill)?;
        let broken = Instant::now();
        for (name, labels) in fault.alerts {
            expected.push((*name, *labels, fault.what, broken));
        }
    }
    let fired = times(drill, prometheus, &expected, true)?;
    let mut healed = Vec::new();
    for fault in round {
        (fault.heal)(drill)?;
        say(format!("healed: {}", fault.what));
        for (name, labels) in fault.alerts {
            healed.push((*name, *labels, fault.what, Instant::now()));
        }
    }
    let cleared = times(drill, prometheus, &healed, false)?;
    let rows = expected.iter().zip(fired).zip(cleared);
    Ok(rows
        .map(|(((name, _, what, _), fired), cleared)| {
            format!("  {name:<22} {what:<45} {fired:>9.0} s {cleared:>11.0} s")
        })
        .collect())
}

/// How long each took to fire, or to clear, in seconds.
fn times(
    drill: &mut Running,
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
        drill.wait(Duration::from_millis(300))?;
    }
    Ok(times.into_iter().flatten().collect())
}

/// Asks a service as an operator does; answers what it said.
fn ask(
    drill: &Running,
    service: &'static str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String> {
    let token = drill
        .stack
        .tool("token")
        .args(["alert-drill", "--operator"])
        .output()
        .context("token")?;
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    let port = drill.stack.wiring.ports.get(service).copied();
    let header = format!("Authorization: Bearer {token}\r\n");
    let (status, answer) = http::send(port.unwrap_or(0), method, path, &header, body)
        .context(format!("{method} {path}"))?;
    if (200..300).contains(&status) {
        Ok(answer)
    } else {
        Err(error(format!("{method} {path}: {status} {answer}")))
    }
}

fn knobs(drill: &mut Running, latency: u32, fail: f64) -> Result {
    let knobs = format!(
        "{{\"latency_min_ms\":{latency},\"latency_max_ms\":{latency},\"fail_before\":{fail},\"fail_after\":0,\"decline\":0}}"
    );
    ask(drill, "card-processor", "PUT", "/knobs", &knobs).map(drop)
}

fn switch(drill: &mut Running, how: &str) -> Result {
    let path = format!("/demo/queues/notification.choreography/{how}");
    ask(drill, "notification", "POST", &path, "").map(drop)
}

/// Drops what inventory has parked.
fn drop_parked(drill: &mut Running) -> Result {
    let parked = ask(drill, "inventory", "GET", "/operator/parked", "")?;
    let ids = parked
        .split("\"id\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    for id in ids {
        let path = format!("/operator/parked/{id}/drop");
        ask(
            drill,
            "inventory",
            "POST",
            &path,
            "{\"note\":\"the drill's own\"}",
        )?;
    }
    Ok(())
}

/// A collector that takes everything and keeps nothing.
fn start_collector(drill: &mut Running) -> Result {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let port = drill
        .stack
        .wiring
        .extra
        .iter()
        .find(|(name, _)| name == COLLECTOR)
        .and_then(|(_, url)| url.rsplit(':').next()?.parse().ok());
    let port: u16 = port.ok_or_else(|| error("no collector was announced"))?;
    if STARTED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("the collector")?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Each connection brings one request after the other, until its service ends.
            thread::spawn(move || take_spans(stream));
        }
    });
    Ok(())
}

/// Answers each request of a connection with 200 and an empty message.
fn take_spans(mut stream: std::net::TcpStream) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        let head = bytes.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(head) = head {
            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
            let length = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            let end = head + 4 + length.unwrap_or(0);
            if bytes.len() >= end {
                bytes.drain(..end);
                stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
                )?;
                continue;
            }
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(()),
            read => bytes.extend_from_slice(&chunk[..read]),
        }
    }
}

/// An alert that nobody provokes here would be a promise that nobody tried.
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
            return Err(error(format!("no fault of this drill provokes {name}")));
        }
    }
    Ok(())
}

/// Every panel and every rule asks for something that is there, now that everything has happened once.
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
