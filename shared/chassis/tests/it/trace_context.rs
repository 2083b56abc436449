//! W3C Trace Context over HTTP: from a request to the calls that it leads to, through two services.

use std::sync::Once;

use clap::Parser;
use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use testkit::{RelayConfig, client, eventually, relay, service_token_file};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// A running relay. It ends with the test's runtime: a relay that stops in good order shuts down the telemetry of the
/// process, which these tests share.
struct Relay {
    url: String,
}

impl Relay {
    async fn start() -> Self {
        static TELEMETRY: Once = Once::new();
        let token = service_token_file("trace-relay");
        let jwks = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/development/jwks.json"
        );
        let config = RelayConfig::parse_from([
            "trace-relay",
            "--http-workers=1",
            "--otel-traces-exporter=none",
            "--log=error",
            &format!("--jwks={jwks}"),
            &format!("--service-token-file={}", token.display()),
        ]);
        TELEMETRY.call_once(|| {
            chassis::start("trace-relay", &config.telemetry).expect("telemetry is set up once");
        });
        let chassis = relay(config).expect("it is put together");
        let url = format!("http://{}", chassis.address().expect("it is bound"));
        tokio::spawn(chassis.run(CancellationToken::new()));
        let relay = Self { url };
        eventually("the relay is ready", || async {
            let ready = client().get(format!("{}/health/ready", relay.url)).send();
            ready.await.map(|_| ()).map_err(|error| error.to_string())
        })
        .await;
        relay
    }

    /// Has the relay make these calls, for a request with these headers.
    async fn asked(&self, headers: HeaderMap, calls: Value) {
        let request = client()
            .post(format!("{}/relay", self.url))
            .headers(headers);
        let answer = request.json(&calls).send().await.expect("an answer");
        let status = answer.status();
        assert_eq!(status, 200, "{:?}", answer.text().await);
    }
}

/// A server outside of this project: it answers `null`, and gives the test the heads of the requests that it got.
struct Outside {
    listener: TcpListener,
}

impl Outside {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self { listener }
    }

    fn call(&self) -> Value {
        let address = self.listener.local_addr().expect("an address");
        json!({ "url": format!("http://{address}/"), "arguments": [] })
    }

    /// Takes one call, and returns its `traceparent` and all of its `tracestate`.
    async fn taken(&self) -> (String, Vec<String>) {
        let (mut stream, _) = self.listener.accept().await.expect("a call");
        let head = head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4\r\n\
                      connection: close\r\n\r\nnull";
        let answered = stream.write_all(answer.as_bytes()).await;
        answered.expect("it can be answered");
        let values = |name: &str| -> Vec<String> {
            let fields = head.lines().filter_map(|line| line.split_once(": "));
            fields
                .filter(|(field, _)| field.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
                .collect()
        };
        let mut parents = values("traceparent");
        assert_eq!(parents.len(), 1, "{head}");
        (parents.remove(0), values("tracestate"))
    }
}

/// Reads a request to its end; returns its head.
async fn head(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n[]") {
        let read = stream.read_buf(&mut request).await.expect("a request");
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&request));
    }
    String::from_utf8(request).expect("text")
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).expect("a header"));
    }
    headers
}

#[tokio::test]
async fn trace_and_its_state_go_through_two_services() {
    let (first, second) = tokio::join!(Relay::start(), Relay::start());
    let outside = Outside::listen().await;
    let chain = json!([{
        "url": format!("{}/relay", second.url),
        "arguments": [outside.call(), outside.call()],
    }]);
    let came = headers(&[
        ("traceparent", PARENT),
        ("tracestate", "rojo=1 , tenant@@system=2"),
        ("tracestate", "congo=3"),
    ]);
    let calls = async { (outside.taken().await, outside.taken().await) };
    let ((), ((one, state), (two, again))) = tokio::join!(first.asked(came, chain), calls);
    for parent in [&one, &two] {
        assert_eq!((&parent[..36], &parent[52..]), (&PARENT[..36], "-01"));
        assert_ne!(parent[36..52], PARENT[36..52]);
    }
    assert_ne!(one, two, "each call has a span of its own");
    assert_eq!(state, ["rojo=1,tenant@@system=2,congo=3"]);
    assert_eq!(again, state);
}

#[tokio::test]
async fn malformed_trace_headers_are_not_passed_on() {
    let relay = Relay::start().await;
    let outside = Outside::listen().await;
    for (fields, goes_on) in [
        (
            &[("traceparent", PARENT), ("traceparent", PARENT)][..],
            false,
        ),
        (&[("traceparent", &PARENT[..54])], false),
        (&[("traceparent", ""), ("tracestate", "rojo=1")], false),
        (&[("tracestate", "rojo=1")], false),
        (
            &[("trace-parent", PARENT), ("trace-state", "rojo=1")],
            false,
        ),
        (
            &[("traceparent", PARENT), ("tracestate", "rojo=1,Congo=2")],
            true,
        ),
        (&[("traceparent", PARENT), ("trace-state", "rojo=1")], true),
    ] {
        let calls = json!([outside.call()]);
        let ((), (parent, state)) =
            tokio::join!(relay.asked(headers(fields), calls), outside.taken());
        assert_eq!(parent[3..35] == *TRACE, goes_on, "{fields:?}: {parent}");
        assert!(state.is_empty(), "{fields:?}: {state:?}");
    }
}

#[tokio::test]
async fn trace_that_is_not_kept_goes_on_all_the_same() {
    let relay = Relay::start().await;
    let outside = Outside::listen().await;
    for flags in ["00", "02"] {
        let parent = format!("{}{flags}", &PARENT[..53]);
        let came = headers(&[("traceparent", &parent), ("tracestate", "rojo=1")]);
        let calls = json!([outside.call()]);
        let ((), (sent, state)) = tokio::join!(relay.asked(came, calls), outside.taken());
        assert_eq!((&sent[..36], &sent[53..]), (&parent[..36], flags));
        assert_ne!(sent[36..52], parent[36..52]);
        assert_eq!(state, ["rojo=1"]);
    }
}
