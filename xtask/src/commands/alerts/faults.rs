//! The faults of `verify alerts`, how each is healed, and the alerts that it must lead to.

use std::time::Duration;

use super::collector;
use crate::{Context, Result, commands::verify::Trial, error, http, process};

/// A fault, its remedy, and the alerts that it must lead to.
pub(super) struct Fault {
    pub(super) what: &'static str,
    /// The alerts' names, each with the labels that distinguish this one from others of its name.
    pub(super) alerts: &'static [(&'static str, &'static str)],
    pub(super) provoke: fn(&mut Trial) -> Result,
    pub(super) heal: fn(&mut Trial) -> Result,
}

/// The rounds. The faults of one round exist at the same time.
pub(super) const ROUNDS: [&[Fault]; 5] = [
    &[
        Fault {
            what: "the collector of traces is unavailable",
            alerts: &[("TraceExportFailing", "service=\"order\"")],
            // The collector is started only by `heal`.
            provoke: |_| Ok(()),
            heal: collector::start,
        },
        Fault {
            what: "the mail server is stopped",
            alerts: &[("MailsNotSent", "")],
            provoke: |trial| trial.stack.stop("smtp-sink"),
            heal: |trial| trial.stack.revive("smtp-sink"),
        },
        Fault {
            what: "the card processor is killed",
            alerts: &[
                ("ServiceDown", "job=\"card-processor\""),
                ("OrdersNotComingToRest", ""),
                ("OrdersStuck", ""),
                // If an orchestrated order that is paid by card is cancelled now, it is unknown whether it was charged.
                ("SagaStuck", ""),
            ],
            provoke: |trial| trial.stack.kill("card-processor"),
            heal: |trial| {
                trial.stack.revive("card-processor")?;
                trial.all_ready()
            },
        },
        Fault {
            what: "a webhook secret whose key is lost",
            alerts: &[("WebhookSecretsUnopened", "")],
            provoke: |trial| {
                // The endpoint is disabled: no webhook is queued for it.
                trial.stack.execute(
                    "notification",
                    "insert into webhook_endpoint (id, url, secret, sealed, state, reason)
                     values (gen_random_uuid(), 'https://lost.example/', '', 'lost:', 'disabled', 'a drill')",
                )?;
                check_secrets(trial)
            },
            heal: |trial| {
                let delete = "delete from webhook_endpoint where url = 'https://lost.example/'";
                trial.stack.execute("notification", delete)?;
                check_secrets(trial)
            },
        },
    ],
    &[
        Fault {
            what: "the card processor fails every request, and no circuit breaker keeps payment from asking",
            alerts: &[("HighErrorRate", "service=\"card-processor\"")],
            provoke: |trial| {
                breaker(trial, "force_closed")?;
                knobs(trial, 0, 1.0)
            },
            heal: |trial| {
                knobs(trial, 0, 0.0)?;
                breaker(trial, "automatic")
            },
        },
        Fault {
            what: "a saga of an unknown version",
            alerts: &[("SagaBroken", "")],
            provoke: |trial| {
                // A saga that waits for the card processor, which fails.
                let patience = Duration::from_secs(60);
                process::wait_for("a saga that waits for payment", patience, || {
                    let found = trial.stack.execute(
                        "orchestrator",
                        "do $$ begin
                             update saga set definition_version = 99
                             where id = (select id from saga where phase = 'running' and step = 'charge_payment' limit 1);
                             if not found then raise exception 'none'; end if;
                         end $$",
                    );
                    trial.stack.supervise()?;
                    Ok(found.ok())
                })
            },
            heal: |trial| {
                let mend = "update saga set definition_version = 1 where definition_version = 99";
                trial.stack.execute("orchestrator", mend)?;
                each_of(
                    trial,
                    "orchestrator",
                    "sagas?phase=broken",
                    "sagas",
                    "resume",
                )
            },
        },
        Fault {
            what: "a message to inventory that cannot be parsed",
            alerts: &[("MessagesParked", "service=\"inventory\"")],
            provoke: |trial| {
                let path = "/demo/queues/inventory.choreography/poison";
                ask(trial, "inventory", "POST", path, "").map(drop)
            },
            heal: |trial| each_of(trial, "inventory", "parked", "parked", "drop"),
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
            provoke: |trial| switch(trial, "pause"),
            heal: |trial| switch(trial, "resume"),
        },
        Fault {
            what: "a message in the outbox that no queue takes",
            alerts: &[("OutboxQuarantined", "service=\"inventory\"")],
            provoke: |trial| {
                trial.stack.execute(
                    "inventory",
                    "insert into outbox (message_id, exchange, routing_key, headers, payload)
                     values (gen_random_uuid(), 'retry.inventory', 'nowhere', '{}', '')",
                )
            },
            heal: |trial| {
                let delete = "delete from outbox where routing_key = 'nowhere'";
                trial.stack.execute("inventory", delete)
            },
        },
    ],
    &[Fault {
        what: "the card processor takes 6 s",
        alerts: &[
            ("CardCallsSlow", ""),
            ("CircuitBreakerOpen", "name=\"card-processor\""),
        ],
        provoke: |trial| knobs(trial, 6000, 0.0),
        heal: |trial| knobs(trial, 0, 0.0),
    }],
    &[Fault {
        what: "the broker is short of memory, and blocks its publishers",
        alerts: &[
            ("BrokerBlocked", "service=\"order\""),
            ("BrokerLinkDown", "service=\"order\",link=\"publishing\""),
            ("OutboxNotDraining", "service=\"order\""),
        ],
        provoke: |trial| {
            trial
                .stack
                .rabbitmqctl(&["set_vm_memory_high_watermark", "0"])
        },
        heal: |trial| {
            let mend = ["set_vm_memory_high_watermark", "absolute", "1GB"];
            trial.stack.rabbitmqctl(&mend)?;
            trial.all_ready()
        },
    }],
    &[Fault {
        what: "the broker is stopped",
        alerts: &[
            ("BrokerLinkDown", "service=\"order\""),
            ("OutboxNotDraining", "service=\"order\""),
            ("ServiceDown", "job=\"rabbitmq\""),
        ],
        provoke: |trial| trial.stack.stop("rabbitmq"),
        heal: |trial| {
            trial.stack.revive("rabbitmq")?;
            trial.all_ready()
        },
    }],
];

/// Sends a request to a service as an operator, and returns the response's body. Fails if the status is not a success.
fn ask(
    trial: &Trial,
    service: &'static str,
    method: &str,
    path: &str,
    body: &str,
) -> Result<String> {
    let token = trial
        .stack
        .tool("token")
        .args(["alert-fault", "--operator"])
        .output()
        .context("token")?;
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    let port = trial.stack.wiring.ports.get(service).copied();
    let header = format!("Authorization: Bearer {token}\r\n");
    let (status, answer) = http::send(port.unwrap_or(0), method, path, &header, body)
        .context(format!("{method} {path}"))?;
    if (200..300).contains(&status) {
        Ok(answer)
    } else {
        Err(error(format!("{method} {path}: {status} {answer}")))
    }
}

/// Switches payment's circuit breaker before the card processor.
fn breaker(trial: &mut Trial, to: &str) -> Result {
    let switches = format!("{{\"breaker\":\"{to}\"}}");
    let path = "/operator/dependencies/card-processor";
    ask(trial, "payment", "POST", path, &switches).map(drop)
}

fn knobs(trial: &mut Trial, latency: u32, fail: f64) -> Result {
    let knobs = format!(
        "{{\"latency_min_ms\":{latency},\"latency_max_ms\":{latency},\"fail_before\":{fail},\"fail_after\":0,\"decline\":0}}"
    );
    ask(trial, "card-processor", "PUT", "/knobs", &knobs).map(drop)
}

fn switch(trial: &mut Trial, how: &str) -> Result {
    let path = format!("/demo/queues/notification.choreography/{how}");
    ask(trial, "notification", "POST", &path, "").map(drop)
}

/// Restarts notification, which checks webhook secrets when it starts.
fn check_secrets(trial: &mut Trial) -> Result {
    trial.stack.kill("notification")?;
    trial.stack.revive("notification")
}

/// Takes the action `what` on each item of an operator's list, by its id below `below`.
fn each_of(
    trial: &mut Trial,
    service: &'static str,
    list: &str,
    below: &str,
    what: &str,
) -> Result {
    let listed = ask(trial, service, "GET", &format!("/operator/{list}"), "")?;
    let ids = listed
        .split("\"id\":\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    for id in ids {
        let path = format!("/operator/{below}/{id}/{what}");
        let note = "{\"note\":\"of `verify alerts`\"}";
        ask(trial, service, "POST", &path, note)?;
    }
    Ok(())
}
