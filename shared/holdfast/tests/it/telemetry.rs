//! The spans that collectors receive, decoded; and exporters without a collector.

mod collector;
#[cfg(feature = "jaeger")]
mod jaeger;
mod messages;
mod w3c;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    time::{Duration, Instant},
};

use holdfast::telemetry::{self, Exporter, Sampling, TraceContext};
use tracing::{Span, field::Empty, info_span};
use tracing_subscriber::layer::SubscriberExt;

use self::collector::Collector;

const VERSION: &str = "1.2.3";
const CALLER: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn caller() -> Option<TraceContext> {
    TraceContext::parse(CALLER, None)
}

/// A span as a collector receives it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) version: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) kind: &'static str,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) error: Option<String>,
    /// Trace id and span id of each link.
    pub(crate) links: Vec<(String, String)>,
}

/// Installs the process's cryptography provider, which exporters need even without encryption.
fn setup() {
    drop(testkit::client());
}

/// Returns the trace id and the span id of a span.
fn ids(span: &Span) -> (String, String) {
    let trace = telemetry::trace_context_of(span).expect("it is part of a trace");
    let traceparent = trace.traceparent();
    let mut parts = traceparent.split('-').skip(1).map(str::to_owned);
    (
        parts.next().expect("a trace"),
        parts.next().expect("a span"),
    )
}

/// Makes a request's span below a caller's, a failed call below it, and a job that is linked with both. Returns what a
/// collector should receive.
fn work() -> Vec<Seen> {
    let request = info_span!(
        "request",
        otel.kind = "server",
        order.id = "o-1",
        trace_id = Empty
    );
    telemetry::adopt(&request, caller().as_ref());
    telemetry::attribute(&request, "http.response.status_code", 202_i64);
    telemetry::rename(&request, || "POST /orders".to_owned());
    let call = request.in_scope(|| info_span!("call", otel.kind = "client"));
    telemetry::attributes(&call, || {
        [
            ("url.full", "http://inventory/prices".into()),
            ("retry", true.into()),
        ]
    });
    telemetry::fail(&call, "timeout", "no answer in time");
    let job = info_span!(parent: None, "job");
    telemetry::link(&job, &request);
    telemetry::link(&job, &call);

    let [(trace, request_id), (_, call_id), (job_trace, job_id)] = [&request, &call, &job].map(ids);
    assert_eq!(trace, CALLER[3..35]);
    assert_ne!(job_trace, trace);
    let seen = |name: &str,
                trace: &str,
                id: &str,
                parent: Option<&str>,
                kind,
                attributes: &[(&str, &str)]| Seen {
        name: name.to_owned(),
        service: "order".to_owned(),
        version: VERSION.to_owned(),
        trace: trace.to_owned(),
        id: id.to_owned(),
        parent: parent.map(str::to_owned),
        kind,
        attributes: attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
        error: None,
        links: Vec::new(),
    };
    vec![
        seen(
            "POST /orders",
            &trace,
            &request_id,
            Some(&CALLER[36..52]),
            "server",
            &[
                ("order.id", "o-1"),
                ("http.response.status_code", "202"),
                ("trace_id", &trace),
            ],
        ),
        Seen {
            error: Some("no answer in time".to_owned()),
            ..seen(
                "call",
                &trace,
                &call_id,
                Some(&request_id),
                "client",
                &[
                    ("url.full", "http://inventory/prices"),
                    ("retry", "true"),
                    ("error.type", "timeout"),
                ],
            )
        },
        Seen {
            links: vec![
                (trace.clone(), request_id.clone()),
                (trace.clone(), call_id.clone()),
            ],
            ..seen("job", &job_trace, &job_id, None, "internal", &[])
        },
    ]
}

fn sorted(mut spans: Vec<Seen>) -> Vec<Seen> {
    spans.sort_unstable();
    spans
}

fn without_links(spans: &[Seen]) -> Vec<Seen> {
    let mut spans = spans.to_vec();
    for span in &mut spans {
        span.links.clear();
    }
    spans
}

#[test]
fn every_exporter_sends_the_same_spans() {
    setup();
    let (otlp, zipkin) = (Collector::start(), Collector::start());
    #[cfg(feature = "jaeger")]
    let agent = jaeger::Agent::start();
    let exporters = [
        Exporter::Otlp {
            endpoint: otlp.url(""),
        },
        Exporter::Zipkin {
            endpoint: zipkin.url("/api/v2/spans"),
        },
        #[cfg(feature = "jaeger")]
        Exporter::Jaeger {
            host: "127.0.0.1".to_owned(),
            port: agent.port(),
        },
    ];
    let provider = telemetry::provider("order", VERSION, &exporters, Sampling::default())
        .expect("three exporters");
    let subscriber = tracing_subscriber::registry().with(telemetry::layer("order", &provider));
    let expected = sorted(tracing::subscriber::with_default(subscriber, work));
    provider.shutdown().expect("all of it is sent");

    assert_eq!(sorted(otlp.otlp_spans()), expected);
    assert_eq!(otlp.paths(), ["/v1/traces"]);
    assert_eq!(sorted(zipkin.zipkin_spans()), without_links(&expected));
    assert_eq!(zipkin.paths(), ["/api/v2/spans"]);
    #[cfg(feature = "jaeger")]
    assert_eq!(sorted(agent.spans()), expected);
}

/// Sends many spans to a collector that does not take them. Returns the times that sending and stopping took.
fn without_a_collector(exporter: Exporter) -> (Duration, Duration) {
    let provider = telemetry::provider("order", VERSION, &[exporter], Sampling::default())
        .expect("an exporter");
    let subscriber = tracing_subscriber::registry().with(telemetry::layer("order", &provider));
    let begun = Instant::now();
    tracing::subscriber::with_default(subscriber, || {
        // Many more spans than the queue holds.
        for _ in 0..20_000 {
            drop(info_span!("request"));
        }
    });
    let worked = begun.elapsed();
    let begun = Instant::now();
    let _ = provider.shutdown_with_timeout(Duration::from_secs(1));
    (worked, begun.elapsed())
}

#[test]
fn unavailable_collector_holds_up_nothing() {
    setup();
    // A port on which nothing listens.
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = closed.local_addr().expect("an address");
    drop(closed);
    // A server that accepts connections and never responds.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    let exporters = [
        Exporter::Otlp {
            endpoint: format!("http://{address}"),
        },
        Exporter::Zipkin {
            endpoint: format!("http://{address}/api/v2/spans"),
        },
        Exporter::Otlp { endpoint: silent },
        // A name that does not exist is noticed only when there are spans to send.
        Exporter::Otlp {
            endpoint: "http://no-such-host.invalid:4318".to_owned(),
        },
        #[cfg(feature = "jaeger")]
        Exporter::Jaeger {
            host: "no-such-host.invalid".to_owned(),
            port: 6831,
        },
    ];
    for exporter in exporters {
        let (worked, stopped) = without_a_collector(exporter.clone());
        assert!(worked < Duration::from_secs(2), "{exporter:?}: {worked:?}");
        assert!(
            stopped < Duration::from_secs(2),
            "{exporter:?}: {stopped:?}"
        );
    }
}

#[test]
fn refused_batch_of_spans_is_lost_and_the_next_is_sent() {
    setup();
    let collector = Collector::start();
    collector.refuse(true);
    let exporter = Exporter::Zipkin {
        endpoint: collector.url("/api/v2/spans"),
    };
    let provider = telemetry::provider("order", VERSION, &[exporter], Sampling::default())
        .expect("an exporter");
    let subscriber = tracing_subscriber::registry().with(telemetry::layer("order", &provider));
    tracing::subscriber::with_default(subscriber, || {
        drop(info_span!("lost"));
        provider.force_flush().expect_err("it was refused");
        collector.refuse(false);
        drop(info_span!("kept"));
        provider.force_flush().expect("it was taken");
    });
    let names: Vec<String> = collector
        .zipkin_spans()
        .into_iter()
        .map(|span| span.name)
        .collect();
    assert_eq!(names, ["kept"]);
}

/// Returns true for a root span, and for a child of a caller whose trace is kept, if the sampler keeps it.
fn kept(sampling: Sampling) -> (bool, bool) {
    let provider =
        telemetry::provider("order", VERSION, &[Exporter::Console], sampling).expect("an exporter");
    let subscriber = tracing_subscriber::registry().with(telemetry::layer("order", &provider));
    tracing::subscriber::with_default(subscriber, || {
        let (root, child) = (info_span!("root"), info_span!("child"));
        telemetry::adopt(&child, caller().as_ref());
        let kept = (
            telemetry::is_recorded(&root),
            telemetry::is_recorded(&child),
        );
        for (span, is_kept) in [(&root, kept.0), (&child, kept.1)] {
            // The ids travel on in any case, with the flag that says if the span is kept.
            let trace = telemetry::trace_context_of(span).expect("ids");
            assert_eq!(trace.is_sampled(), is_kept, "{trace:?}");
        }
        kept
    })
}

#[test]
fn samplers_keep_what_their_names_say() {
    let named = |name, ratio| Sampling::named(name, ratio).expect(name);
    assert_eq!(Sampling::default(), named("parentbased_always_on", 1.0));
    assert_eq!(kept(named("always_on", 1.0)), (true, true));
    assert_eq!(kept(named("always_off", 1.0)), (false, false));
    assert_eq!(kept(named("parentbased_always_off", 1.0)), (false, true));
    assert_eq!(kept(named("parentbased_traceidratio", 0.0)), (false, true));
    assert_eq!(kept(named("traceidratio", 0.0)), (false, false));
    for (name, ratio, variable) in [
        ("sometimes", 1.0, "OTEL_TRACES_SAMPLER "),
        ("parentbased_", 1.0, "OTEL_TRACES_SAMPLER "),
        ("traceidratio", 1.5, "OTEL_TRACES_SAMPLER_ARG "),
        ("traceidratio", f64::NAN, "OTEL_TRACES_SAMPLER_ARG "),
    ] {
        let refused = Sampling::named(name, ratio).expect_err(name).to_string();
        assert!(refused.starts_with(variable), "{refused}");
    }
}

#[test]
fn without_an_exporter_ids_travel_and_nothing_is_recorded() {
    let provider = telemetry::provider("order", VERSION, &[Exporter::None], Sampling::default())
        .expect("no exporter is one");
    let subscriber = tracing_subscriber::registry().with(telemetry::layer("order", &provider));
    tracing::subscriber::with_default(subscriber, || {
        let span = info_span!("root");
        assert!(!telemetry::is_recorded(&span));
        let trace = telemetry::trace_context_of(&span).expect("ids");
        assert!(!trace.is_sampled(), "{trace:?}");
    });
}

#[cfg(not(feature = "jaeger"))]
#[test]
fn exporter_missing_from_the_build_is_named() {
    let jaeger = Exporter::Jaeger {
        host: "localhost".to_owned(),
        port: 6831,
    };
    let refused = telemetry::provider("order", VERSION, &[jaeger], Sampling::default())
        .expect_err("it was not built")
        .to_string();
    assert!(
        refused.contains("OTEL_TRACES_EXPORTER=jaeger") && refused.contains("feature jaeger"),
        "{refused}"
    );
}

#[test]
fn invalid_endpoint_is_refused_at_the_start() {
    setup();
    let zipkin = Exporter::Zipkin {
        endpoint: "localhost without a scheme".to_owned(),
    };
    let refused = telemetry::provider("order", VERSION, &[zipkin], Sampling::default())
        .expect_err("no URL")
        .to_string();
    assert!(refused.contains("localhost without a scheme"), "{refused}");
}
