//! One trace holds the whole order: HTTP, SQL, outbox, broker, every service, every attempt.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
};

use e2e::traces::{
    Case, Span, Trace,
    orders::{Orders, Placed},
};
use load_tests::traffic::{Coordination, Ending};
use serde_json::json;
use testkit::{client, eventually};
use xtask::wiring::SERVICES;

use crate::system::System;

/// Returns every ended span of a trace.
fn trace(system: &System, trace: &str) -> Trace {
    let logs = SERVICES.map(|service| system.whole_log(service));
    logs.iter()
        .flat_map(|log| log.lines())
        .filter_map(|line| Span::from_console(line, trace))
        .collect()
}

fn orders(system: &System) -> Orders {
    Orders {
        order: system.url("order"),
        payment: system.url("payment"),
        card_processor: system.url("card-processor"),
        http: client(),
    }
}

/// Waits until the trace of an order is complete.
async fn whole(system: &System, placed: &Placed) -> Trace {
    let what = format!("the trace of the {:?} order is complete", placed.case);
    eventually(&what, || async {
        let trace = trace(system, &placed.trace);
        let faults = placed.case.faults(&trace, &placed.caller, &placed.order);
        if faults.is_empty() {
            return Ok(trace);
        }
        let seen: Vec<_> = trace.spans().map(|span| trace.path(span)).collect();
        Err(format!("{faults:#?} in {seen:#?}"))
    })
    .await
}

#[tokio::test]
async fn one_trace_holds_the_whole_order_in_every_case() {
    let system = System::start_with(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    for case in Case::ALL {
        let placed = orders(&system).place(case).await.expect("it comes to rest");
        whole(&system, &placed).await;
    }
    system.end().await;
}

/// [`Case::faults`] reports a span that was removed, and an attribute that was changed.
#[tokio::test]
async fn an_incomplete_trace_is_reported() {
    let system = System::start_with(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    let placed = orders(&system)
        .place(Case::Refunded)
        .await
        .expect("an order");
    let good = whole(&system, &placed).await;
    let faults = |trace: &Trace| placed.case.faults(trace, &placed.caller, &placed.order);
    for gone in good.spans().filter(|span| span.kind != "client") {
        let rest: Trace = good
            .spans()
            .filter(|span| span.id != gone.id)
            .cloned()
            .collect();
        assert!(!faults(&rest).is_empty(), "no fault without {gone:?}");
    }
    for (name, value) in [("order.amount", "1"), ("http.route", "")] {
        let changed: Trace = good
            .spans()
            .cloned()
            .map(|mut span| {
                if let Some(is) = span.attributes.get_mut(name) {
                    value.clone_into(is);
                }
                span
            })
            .collect();
        assert!(!faults(&changed).is_empty(), "{name}={value}");
    }
    system.end().await;
}

#[tokio::test]
async fn a_retried_message_stays_in_its_trace() {
    let system = System::start_with(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    // The failpoint fails the first message, and is then off.
    system.stop("payment").await;
    system.revive("payment", &[("FAILPOINTS", "payment.handle=1*return->off")]);
    system.all_ready().await;
    let placed = orders(&system)
        .place(Case::Confirmed)
        .await
        .expect("it comes to rest");
    let trace = whole(&system, &placed).await;
    let mut deliveries: Vec<&Span> = trace
        .spans()
        .filter(|span| {
            span.name.starts_with("process ") && span.name.ends_with("payment.choreography")
        })
        .filter(|span| span.get("cloudevents.event_type") == "order.created.v1")
        .collect();
    deliveries.sort_by_key(|span| span.get("holdfast.attempt").to_owned());
    let [first, second] = deliveries[..] else {
        panic!("{deliveries:#?}");
    };
    assert_eq!(
        (first.get("error.type"), second.get("error.type")),
        ("retried", "")
    );
    // The default exchange brought it back from the delay queue, and has no name.
    assert_eq!(second.name, "process payment.choreography");
    let sent = trace.parent(second).expect("the span that sent it again");
    assert_eq!(sent.name, "send retry.payment:payment.choreography.retry.1");
    assert_eq!(trace.parent(sent), Some(first));
    system.end().await;
}

/// A server that accepts any request, and counts those to `/v1/traces`.
struct Collector {
    taken: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Collector {
    fn start(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("the port is free");
        let taken = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&taken);
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let count = std::sync::Arc::clone(&count);
                std::thread::spawn(move || {
                    let mut begun = [0; 1024];
                    // One request a connection. The exporters' own tests check its content.
                    let read = stream.read(&mut begun).unwrap_or(0);
                    if begun[..read].starts_with(b"POST /v1/traces ") {
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = stream.write_all(answer.as_bytes());
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    // Read until the client closes: a reset would lose the response.
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                });
            }
        });
        Self { taken }
    }

    fn taken(&self) -> usize {
        self.taken.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[tokio::test]
async fn an_unavailable_collector_costs_only_spans() {
    const LOST: &str = "spans are lost until the collector answers";
    let address: SocketAddr = ([127, 0, 0, 1], xtask::ports::free().expect("a port")).into();
    let endpoint = format!("http://{address}");
    let system = System::start_with(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "200"),
    ])
    .await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        // Every service has a part in an orchestrated order.
        let way = Coordination::Orchestration;
        placed.push((
            Ending::ConfirmedCard,
            system.place_by(way, Ending::ConfirmedCard).await,
        ));
        system.ended_as_expected(&placed).await;
    }
    let warnings = |service: &str| system.whole_log(service).matches(LOST).count();
    for service in SERVICES {
        eventually(&format!("{service} warns"), || async {
            (warnings(service) > 0).then_some(()).ok_or("not yet")
        })
        .await;
    }
    // The collector starts, and receives the spans from then on.
    let collector = Collector::start(address);
    for service in SERVICES {
        eventually(&format!("{service} sends again"), || async {
            // Every service records spans of every order.
            let mut order = json!({ "lines": [{ "sku": "TEA-ASSAM", "quantity": 1 }], "payment": { "method": "card", "token": "tok_visa" } });
            order["coordination"] = "orchestration".into();
            system.place_this("alice", &order).await;
            let log = system.whole_log(service);
            log.contains("the collector takes spans again")
                .then_some(())
                .ok_or_else(|| system.log(service))
        })
        .await;
        assert_eq!(warnings(service), 1, "{}", system.log(service));
    }
    assert!(collector.taken() >= SERVICES.len());
    system.end().await;
}
