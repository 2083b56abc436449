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

/// Every span of a trace that has ended.
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

/// Waits until the trace of an order is as it should be.
async fn whole(system: &System, placed: &Placed) -> Trace {
    let what = format!("the trace of the order that is {:?} is whole", placed.case);
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
async fn one_trace_holds_the_whole_order_whatever_becomes_of_it() {
    let system = System::start_with(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    for case in Case::ALL {
        let placed = orders(&system).place(case).await.expect("it comes to rest");
        whole(&system, &placed).await;
    }
    system.end().await;
}

/// What [`Case::faults`] says is not nothing: it misses what is taken away, and sees what does not belong.
#[tokio::test]
async fn a_trace_that_lacks_something_is_not_whole() {
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
        assert!(!faults(&rest).is_empty(), "nobody misses {gone:?}");
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
async fn a_message_that_is_tried_again_stays_in_its_trace() {
    let system = System::start_with(&[("OTEL_TRACES_EXPORTER", "console")]).await;
    // Until the point is cleared by a restart, payment fails at every order.
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
    // It came back from the delay queue by the default exchange, which has no name.
    assert_eq!(second.name, "process payment.choreography");
    let sent = trace.parent(second).expect("what sent it again");
    assert_eq!(sent.name, "send retry.payment:payment.choreography.retry.1");
    assert_eq!(trace.parent(sent), Some(first));
    system.end().await;
}

/// Takes spans, or whatever else is posted to it, and counts the requests to `/v1/traces`.
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
                    // One request a connection; what it says is tested where the exporters are.
                    let read = stream.read(&mut begun).unwrap_or(0);
                    if begun[..read].starts_with(b"POST /v1/traces ") {
                        count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                    let answer =
                        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = stream.write_all(answer.as_bytes());
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                    // Until the other side has said all it wanted to: a reset would lose the answer.
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
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
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
        // The way that every service has a part in.
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
    // The collector comes, and gets what happens from then on.
    let collector = Collector::start(address);
    for service in SERVICES {
        eventually(&format!("{service} sends again"), || async {
            // Each service has something to tell: every order comes by.
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
