//! An HTTP server that receives spans and decodes them.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{span::SpanKind, status::StatusCode},
};
use prost::Message;
use serde_json::Value;

use super::Seen;

/// A collector that takes every post. It has threads of its own, because the code under test may block.
pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Path and body of each request that was taken.
    taken: Mutex<Vec<(String, Vec<u8>)>>,
    refuses: AtomicBool,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<State>::default();
        let served = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&served);
                // The thread ends when the exporter closes the connection.
                std::thread::spawn(move || while serve(&stream, &state).is_some() {});
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Makes the server respond with 503, or with 200 again.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        let taken = self.state.taken.lock().expect("no panic");
        taken.iter().map(|(path, _)| path.clone()).collect()
    }

    pub(crate) fn otlp_spans(&self) -> Vec<Seen> {
        let taken = self.state.taken.lock().expect("no panic");
        taken.iter().flat_map(|(_, body)| otlp(body)).collect()
    }

    pub(crate) fn zipkin_spans(&self) -> Vec<Seen> {
        let taken = self.state.taken.lock().expect("no panic");
        taken.iter().flat_map(|(_, body)| zipkin(body)).collect()
    }
}

/// Serves one request of a connection; returns `None` when the connection is closed.
fn serve(mut stream: &TcpStream, state: &State) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let status = if state.refuses.load(Ordering::SeqCst) {
        "503 Service Unavailable"
    } else {
        state.taken.lock().expect("no panic").push((path, body));
        "200 OK"
    };
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").ok()
}

fn otlp(body: &[u8]) -> Vec<Seen> {
    let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
    let mut seen = Vec::new();
    for resource in request.resource_spans {
        let process = pairs(&resource.resource.expect("a resource").attributes);
        assert!(process.contains_key("service.instance.id"), "{process:?}");
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
            let status = span.status.unwrap_or_default();
            seen.push(Seen {
                service: process["service.name"].clone(),
                version: process["service.version"].clone(),
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: (!span.parent_span_id.is_empty()).then(|| hex(&span.parent_span_id)),
                kind: match SpanKind::try_from(span.kind) {
                    Ok(SpanKind::Server) => "server",
                    Ok(SpanKind::Client) => "client",
                    Ok(SpanKind::Producer) => "producer",
                    Ok(SpanKind::Consumer) => "consumer",
                    Ok(SpanKind::Internal) => "internal",
                    other => panic!("{other:?}"),
                },
                attributes: pairs(&span.attributes),
                error: (status.code == StatusCode::Error as i32).then_some(status.message),
                links: span
                    .links
                    .iter()
                    .map(|link| (hex(&link.trace_id), hex(&link.span_id)))
                    .collect(),
                name: span.name,
            });
        }
    }
    seen
}

fn pairs(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|any| any.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::BoolValue(value)) => value.to_string(),
        Some(any_value::Value::IntValue(value)) => value.to_string(),
        Some(any_value::Value::DoubleValue(value)) => value.to_string(),
        other => panic!("{other:?}"),
    };
    attributes
        .iter()
        .map(|pair| (pair.key.clone(), text(&pair.value)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;

    let mut hex = String::new();
    for byte in bytes {
        write!(hex, "{byte:02x}").expect("a string takes it");
    }
    hex
}

fn zipkin(body: &[u8]) -> Vec<Seen> {
    let spans: Vec<Value> = serde_json::from_slice(body).expect("a list of spans");
    spans
        .into_iter()
        .map(|span| {
            let text = |name: &str| span[name].as_str().map(str::to_owned);
            for number in ["timestamp", "duration"] {
                assert!(
                    span[number].as_u64().is_some_and(|number| number > 0),
                    "{span}"
                );
            }
            let tags = span["tags"].as_object().expect("tags");
            let mut attributes: BTreeMap<String, String> = tags
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().expect("text").to_owned()))
                .collect();
            attributes
                .remove("service.instance.id")
                .expect("which process it was");
            let failed = attributes.remove("otel.status_code");
            assert!(failed.is_none_or(|code| code == "ERROR"));
            Seen {
                name: text("name").expect("a name"),
                service: span["localEndpoint"]["serviceName"]
                    .as_str()
                    .expect("a service")
                    .to_owned(),
                version: attributes.remove("service.version").expect("a version"),
                trace: text("traceId").expect("a trace"),
                id: text("id").expect("an id"),
                parent: text("parentId"),
                kind: match span["kind"].as_str() {
                    Some("SERVER") => "server",
                    Some("CLIENT") => "client",
                    Some("PRODUCER") => "producer",
                    Some("CONSUMER") => "consumer",
                    None => "internal",
                    other => panic!("{other:?}"),
                },
                error: attributes.remove("error"),
                attributes,
                links: Vec::new(),
            }
        })
        .collect()
}
