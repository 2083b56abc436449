//! Places a confirmed, a declined, a refunded and a retried order through the front door of a running stack, and
//! compares Jaeger's trace of each with the expected one.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use clap::Parser;
use e2e::traces::{
    Case, jaeger,
    orders::{Orders, Placed},
};
use holdfast::backoff::pause;
use serde_json::Value;

/// Places a confirmed, a declined, a refunded and a retried order, and checks their traces in Jaeger
#[derive(Parser)]
struct Arguments {
    /// The base URL of the front door, which routes /api/SERVICE to the services and /jaeger to Jaeger
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    front_door: String,

    /// The base URL of Jaeger's /api/traces, if Jaeger is not behind the front door
    #[arg(long)]
    jaeger: Option<String>,

    /// The time within which a trace must be complete, in seconds
    #[arg(long, default_value_t = 30)]
    patience: u64,
}

#[expect(clippy::print_stdout, reason = "it is what its user sees")]
#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let Arguments {
        front_door,
        jaeger,
        patience,
    } = Arguments::parse();
    // An error means that a provider is already installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let front_door = front_door.trim_end_matches('/');
    let service = |name: &str| format!("{front_door}/api/{name}");
    let orders = Orders {
        order: service("order"),
        payment: service("payment"),
        card_processor: service("card-processor"),
        http: reqwest::Client::builder()
            .timeout(Duration::from_secs(15))
            .build()?,
    };
    let jaeger = jaeger.unwrap_or_else(|| format!("{front_door}/jaeger"));
    let mut bad = 0;
    for case in Case::ALL {
        let placed = orders.place(case).await?;
        let faults = look(&orders, &jaeger, &placed, Duration::from_secs(patience)).await?;
        let (id, trace) = (
            placed.order["id"].as_str().unwrap_or_default(),
            &placed.trace,
        );
        match faults {
            Ok(spans) => println!(
                "{case:?}: order {id}, trace {trace}: {spans} spans, all as they should be"
            ),
            Err(faults) => {
                bad += 1;
                println!(
                    "{case:?}: order {id}, trace {trace}: {} faults",
                    faults.len()
                );
                for fault in faults {
                    println!("  {fault}");
                }
            }
        }
    }
    Ok(if bad == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Polls Jaeger until the trace is complete and listed under its service. Returns the number of its spans, or, after
/// `patience`, its faults.
async fn look(
    orders: &Orders,
    jaeger: &str,
    placed: &Placed,
    patience: Duration,
) -> anyhow::Result<Result<usize, Vec<String>>> {
    let begun = std::time::Instant::now();
    let ask = async |path: String| -> anyhow::Result<Value> {
        let url = format!("{}{path}", jaeger.trim_end_matches('/'));
        let answer = orders.http.get(&url).send().await?;
        // Jaeger answers 404 for a trace that it has not received yet.
        let text = answer.text().await?;
        serde_json::from_str(&text).with_context(|| format!("{url} answered {text}"))
    };
    loop {
        let trace = jaeger::trace(&ask(format!("/api/traces/{}", placed.trace)).await?);
        let mut faults = placed.case.faults(&trace, &placed.caller, &placed.order);
        let found = ask("/api/traces?service=order&limit=200".to_owned()).await?;
        let listed = found["data"].as_array().is_some_and(|traces| {
            traces
                .iter()
                .any(|listed| listed["traceID"] == placed.trace.as_str())
        });
        if !listed {
            faults.insert("it is not among the order service's last 200 traces".to_owned());
        }
        if faults.is_empty() {
            return Ok(Ok(trace.spans().count()));
        }
        if begun.elapsed() > patience {
            return Ok(Err(faults.into_iter().collect()));
        }
        pause(Duration::from_millis(500)).await;
    }
}
