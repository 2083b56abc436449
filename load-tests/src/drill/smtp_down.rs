//! The mail server is unavailable: mails wait, orders do not. Measures the calls that are made to it in vain.

use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::{
    Measured,
    process::Process,
    stage::{MAILS, Stage},
};

/// Orders per second.
const RATE: f64 = 4.0;
const OUTAGE: Duration = Duration::from_secs(15);
const REST: Duration = Duration::from_secs(60);

/// A way in which the mail server is unavailable.
#[derive(Clone, Copy)]
enum Away {
    /// Its process is stopped.
    Stopped(Process),
    /// Notification is cut off from it, as if no process listened there.
    CutOff,
}

pub(super) async fn run(stage: &Stage) -> anyhow::Result<(Vec<&'static str>, Vec<Measured>)> {
    let mut measured = Vec::new();
    // Its process is found on this machine if `cargo xtask` started it.
    if let Some(server) = Process::mail_server(stage.whose()) {
        let away = Away::Stopped(server);
        measured.push(outage(stage, away, true, "says nothing, breaker on").await?);
        measured.push(outage(stage, away, false, "says nothing, breaker off").await?);
    }
    measured.push(outage(stage, Away::CutOff, true, "refuses, breaker on").await?);
    measured.push(outage(stage, Away::CutOff, false, "refuses, breaker off").await?);
    let columns = vec![
        "orders accepted",
        "at rest during the outage",
        "calls in vain",
    ];
    Ok((columns, measured))
}

/// Runs one outage under traffic.
async fn outage(
    stage: &Stage,
    away: Away,
    has_breaker: bool,
    name: &'static str,
) -> anyhow::Result<Measured> {
    stage.say(&format!("--- {name}"));
    let breaker = if has_breaker {
        "automatic"
    } else {
        "force_closed"
    };
    stage.switch(MAILS, &json!({ "breaker": breaker })).await?;
    let stopped = match away {
        Away::Stopped(server) => {
            let pid = server.id();
            stage.say(&format!(
                "the mail server (process {pid}) is stopped: it can be connected to, and says nothing"
            ));
            Some(server.stop().context("the mail server")?)
        }
        Away::CutOff => {
            stage.say("notification is cut off from the mail server: every try fails at once");
            stage.switch(MAILS, &json!({ "cut_off": "on" })).await?;
            None
        }
    };
    let before = stage.calls_in_vain(MAILS).await?;
    let placed = stage.place_watched(MAILS, RATE, OUTAGE).await?;
    let (rested, took) = stage.at_rest(&placed.accepted, REST).await;
    let calls = stage.calls_in_vain(MAILS).await? - before;
    stage.say(&format!(
        "{rested} of {} orders are at rest, {:.1} s after the last one; {calls} calls to the mail server were in vain",
        placed.accepted.len(),
        took.as_secs_f64()
    ));
    drop(stopped);
    let mended = json!({ "breaker": "automatic", "cut_off": "off" });
    stage.switch(MAILS, &mended).await?;
    stage.say("the mail server answers again");
    // Mails that still wait would add to the next outage's calls.
    let took = stage.mails_are_sent().await?;
    stage.say(&format!(
        "every mail is sent, {:.1} s later",
        took.as_secs_f64()
    ));
    Ok(Measured {
        name,
        cells: vec![
            placed.accepted.len().to_string(),
            rested.to_string(),
            calls.to_string(),
        ],
    })
}
